"""Attention takes the time of the pairs that a pattern allows: a window at 8192 a tenth of all."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.harness import Row, ratio_row, time_interleaved
from maskwright.attention import Axis, Pattern, causal, documents, global_tokens, window
from maskwright.attention.backends import blocksparse

SDPA = torch.nn.functional.scaled_dot_product_attention
HEADS, DIM = 8, 64
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

# What a step may take of a step of dense SDPA without a mask, forward and backward.
BARS = {
    ("window(255, 0)", 4096, "fp32"): 0.16,
    ("window(255, 0)", 4096, "bf16"): 0.25,
    ("window(255, 0)", 8192, "fp32"): 0.10,
    ("window(255, 0)", 8192, "bf16"): 0.13,
    ("window(256)", 8192, "fp32"): 0.10,
    ("window(256)", 8192, "bf16"): 0.13,
    ("8 documents", 4096, "fp32"): 0.16,
    ("8 documents", 8192, "fp32"): 0.11,
}
# The same of SDPA with a Boolean mask. A window to both sides at 4096 allows 0.125 of
# the pairs; blocks touch 0.150 of them, each dearer than one of a long dense row, which leaves it
# above 0.16 of dense SDPA without a mask.
MASKED_BARS = {
    ("window(256)", 4096, "fp32"): 0.16,
    ("window(256)", 4096, "bf16"): 0.25,
}


def run(quick: bool) -> list[Row]:
    """Each part first checks that both sides give the same answer."""
    lengths = (512,) if quick else (4096, 8192)
    repeats = 2 if quick else 7
    return [
        *(row for length in lengths for row in _against_dense(length, repeats, bars=not quick)),
        *_against_the_flag(lengths[0], repeats, bar=not quick),
        _mix(lengths[-1], repeats, bar=not quick),
        *_block_map(2048 if quick else 16_384, bar=not quick),
        _memory(8192 if quick else 65_536),
        # Rows of other backends (documents, the cost of `attend` itself) follow here.
    ]


# ------------------------------------------------------------------------------ one step


class Step:
    """One forward and backward of an attention, on tensors of its own data type."""

    def __init__(self, length: int, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (1, HEADS, length, DIM)
        drawn = [torch.randn(shape, generator=generator).to(dtype) for _ in range(4)]
        self.leaves = [one.requires_grad_() for one in drawn[:3]]
        self.upstream = drawn[3]

    def __call__(self, attention: Callable[..., Tensor]) -> list[Tensor]:
        out = attention(*self.leaves)
        return [out, *torch.autograd.grad(out, self.leaves, self.upstream)]


def ours(pattern: Pattern, axis: Axis, dtype: torch.dtype) -> Callable[..., Tensor]:
    """Our attention with its plan made, as a model has it from the second layer on."""
    plan = blocksparse.plan(pattern, axis, dtype=dtype)
    return lambda query, key, value: blocksparse.run(query, key, value, plan)


def masked(pattern: Pattern, axis: Axis) -> Callable[..., Tensor]:
    """SDPA with the pattern as a Boolean mask."""
    mask = pattern.dense(axis)
    return lambda query, key, value: SDPA(query, key, value, attn_mask=mask)


def check(step: Step, mine: Callable[..., Tensor], theirs: Callable[..., Tensor]) -> None:
    """Output and gradients of both agree, to the precision of the type."""
    tolerance = 3e-2 if step.upstream.dtype == torch.bfloat16 else 1e-4
    for one, other in zip(step(mine), step(theirs), strict=True):
        off = float((one.detach().float() - other.detach().float()).abs().max())
        most = float(other.detach().float().abs().max())
        assert off <= tolerance * most, (off, most)


def _against_dense(length: int, repeats: int, *, bars: bool) -> list[Row]:
    """Windows and documents against SDPA without a mask, and with the same one."""
    axis = Axis.packed([length // 8] * 8)
    patterns = {
        "window(255, 0)": window(255, 0),
        "window(256)": window(256),
        "8 documents": documents,
    }
    rows = []
    for kind, dtype in TYPES.items():
        step = Step(length, dtype)
        functions: dict[str, Callable[[], object]] = {"no mask": lambda s=step: s(SDPA)}
        touched = {}
        for name, pattern in patterns.items():
            mine, theirs = ours(pattern, axis, dtype), masked(pattern, axis)
            check(step, mine, theirs)
            touched[name] = blocksparse.plan(pattern, axis, dtype=dtype).touched
            functions[name] = lambda s=step, a=mine: s(a)
            functions[f"{name}, masked"] = lambda s=step, a=theirs: s(a)
        seconds = time_interleaved(functions, repeats=repeats)
        for name in patterns:
            bar = BARS.get((name, length, kind)) if bars else None
            share = seconds[name] / seconds["no mask"]
            rows.append(
                ratio_row(
                    f"{name} at {length}, {kind}, against dense SDPA without a mask",
                    seconds[name], seconds["no mask"], at_least=None if bar is None else 1 / bar,
                    note=f"{share:.3f} of dense; touches {touched[name]:.3f} of the pairs"
                    + (f"; at most {bar}" if bar else ""),
                )
            )  # fmt: skip
            bar = MASKED_BARS.get((name, length, kind)) if bars else None
            share = seconds[name] / seconds[f"{name}, masked"]
            rows.append(
                ratio_row(
                    f"{name} at {length}, {kind}, against SDPA with the mask",
                    seconds[name], seconds[f"{name}, masked"],
                    at_least=None if bar is None else 1 / bar,
                    note=f"{share:.3f} of masked" + (f"; at most {bar}" if bar else ""),
                )
            )  # fmt: skip
    return rows


def _against_the_flag(length: int, repeats: int, *, bar: bool) -> list[Row]:
    """Causal attention: SDPA has a flag for it, which skips half of the work by itself."""
    rows = []
    for kind, dtype in TYPES.items():
        step = Step(length, dtype)
        mine = ours(causal, Axis(length), dtype)

        def theirs(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return SDPA(query, key, value, is_causal=True)

        check(step, mine, theirs)
        seconds = time_interleaved(
            {"ours": lambda s=step, a=mine: s(a), "flag": lambda s=step, a=theirs: s(a)},
            repeats=repeats,
        )
        rows.append(
            ratio_row(
                f"causal at {length}, {kind}, against SDPA's is_causal",
                seconds["ours"], seconds["flag"], at_least=1 / 1.05 if bar else None,
                note="no slower, to 5%",
            )
        )  # fmt: skip
    return rows


def _mix(length: int, repeats: int, *, bar: bool) -> Row:
    """A mix against the time that its share of blocks of 128 would take of dense SDPA."""
    first = torch.arange(length) % (length // 4) < 16
    axis = Axis.packed([length // 4] * 4, first=first)
    pattern = causal & documents & (window(length // 32) | global_tokens("first"))
    step = Step(length, torch.float32)
    mine = ours(pattern, axis, torch.float32)
    check(step, mine, masked(pattern, axis))
    ideal = pattern.blocks(axis, size=128).touched
    seconds = time_interleaved(
        {"ours": lambda: step(mine), "dense": lambda: step(SDPA)}, repeats=repeats
    )
    return ratio_row(
        f"causal, documents, window({length // 32}), global tokens at {length}: in 1.8 × ideal",
        seconds["ours"], 1.8 * ideal * seconds["dense"], at_least=1 if bar else None,
        note=f"ideal: {ideal:.3f} of dense, the blocks of 128 with work in them; peer is the limit",
    )  # fmt: skip


# ----------------------------------------------------------------------------- block map


def _block_map(length: int, *, bar: bool) -> list[Row]:
    """The block map of a causal window against FlexAttention's, on the CPU."""
    from torch.nn.attention.flex_attention import create_block_mask

    axis, pattern = Axis(length), causal & window(1024)
    mask_mod = pattern.mask_mod(axis)

    def theirs() -> object:
        return create_block_mask(mask_mod, None, None, length, length, device="cpu")

    touched = pattern.blocks(axis, size=128).states != 0
    before = time.perf_counter()
    found = theirs().to_dense()  # type: ignore[attr-defined]
    peer = time.perf_counter() - before
    assert torch.equal(touched.reshape(found.shape), found.bool())
    seconds = time_interleaved({"ours": lambda: pattern.blocks(axis, size=128)})["ours"]
    case = f"block map of causal & window(1024) at {length}"
    return [
        ratio_row(
            f"{case}, against create_block_mask", seconds, peer, at_least=500 if bar else None,
            note="its once, as it takes seconds",
        ),
        ratio_row(
            f"{case}: 5 ms", seconds, 5e-3, at_least=1 if bar else None, note="peer is the limit"
        ),
    ]  # fmt: skip


# -------------------------------------------------------------------------------- memory

_STEP = """
import resource, sys, torch
from maskwright.attention import (Axis, window)
from maskwright.attention.backends import blocksparse
torch.set_num_threads(1)
length, heads, dim = map(int, sys.argv[1:])
axis = Axis(length)
plan = blocksparse.plan(window(255, 0), axis)
leaves = [torch.randn(1, heads, length, dim, requires_grad=True) for _ in range(3)]
blocksparse.run(*leaves, plan).sum().backward()
assert all(leaf.grad.isfinite().all() for leaf in leaves)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def _memory(length: int) -> Row:
    """Peak memory of a process that trains one step, against one Boolean mask of all pairs."""
    done = subprocess.run(
        [sys.executable, "-c", _STEP, str(length), str(HEADS), str(DIM)],
        capture_output=True,
        text=True,
        check=True,
    )
    mebibytes = int(done.stdout) / 1024
    mask = length * length / 2**20
    tensors = 3 * HEADS * length * DIM * 4 / 2**20
    return Row(
        case=f"peak memory of one step of window(255, 0) at {length}, fp32",
        ours=mebibytes, peer=mask, ratio=mask / mebibytes, bar=None, unit="MiB", held=None,
        note=f"the whole process; query, key and value are {tensors:.0f} MiB; "
        "peer is one Boolean mask of all pairs",
    )  # fmt: skip
