"""Attention takes the time of the pairs that a pattern allows: a window at 8192 a tenth of all."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.harness import Row, ratio_row, time_interleaved
from maskwright.attention import Axis, Pattern, attend, causal, documents, global_tokens, window
from maskwright.attention.backends.dispatch import choose

SDPA = torch.nn.functional.scaled_dot_product_attention
HEADS, DIM = 8, 64
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

# What a step may take of a step of dense SDPA without a mask, forward and backward.
BARS = {
    (case, length, kind): bar
    for case in ("window(255, 0)", "window(256)")
    for length, kind, bar in (
        (4096, "fp32", 0.16),
        (4096, "bf16", 0.25),
        (8192, "fp32", 0.10),
        (8192, "bf16", 0.13),
    )
} | {("8 documents", 4096, "fp32"): 0.16, ("8 documents", 8192, "fp32"): 0.11}


def run(quick: bool) -> list[Row]:
    """Each part first checks that both sides give the same answer."""
    lengths = (512,) if quick else (4096, 8192)
    repeats = 2 if quick else 3
    return [
        *(row for length in lengths for row in _against_dense(length, repeats, bars=not quick)),
        *_against_the_flag(lengths[0], repeats, bar=not quick),
        _mix(lengths[-1], repeats, bar=not quick),
        *_block_map(2048 if quick else 16_384, bar=not quick),
        _memory(8192 if quick else 65_536),
    ]


# ------------------------------------------------------------------------------ one step


class Step:
    """One forward and backward of an attention, on tensors of its own data type.

    ``(1, heads, length, dim)``, contiguous; or, with ``split``, views of ``(1, length, heads,
    dim)``, as a model gets them when it splits the output of a projection into heads.
    """

    def __init__(self, length: int, dtype: torch.dtype, *, split: bool = False) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (1, length, HEADS, DIM) if split else (1, HEADS, length, DIM)
        drawn = [torch.randn(shape, generator=generator).to(dtype) for _ in range(4)]
        if split:
            drawn = [one.transpose(1, 2) for one in drawn]
        self.leaves = [one.requires_grad_() for one in drawn[:3]]
        self.upstream = drawn[3]

    def __call__(self, attention: Callable[..., Tensor]) -> list[Tensor]:
        out = attention(*self.leaves)
        return [out, *torch.autograd.grad(out, self.leaves, self.upstream)]


def ours(pattern: Pattern, axis: Axis) -> Callable[..., Tensor]:
    """Our attention, as a user calls it; its plan is made once, as for the layers of a model."""
    return lambda query, key, value: attend(query, key, value, pattern, q=axis)


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
    for (kind, dtype), split in itertools.product(TYPES.items(), (False, True)):
        step = Step(length, dtype, split=split)
        functions: dict[str, Callable[[], object]] = {"no mask": lambda s=step: s(SDPA)}
        for name, pattern in patterns.items():
            mine, theirs = ours(pattern, axis), masked(pattern, axis)
            check(step, mine, theirs)
            functions[name] = lambda s=step, a=mine: s(a)
            if not split:
                functions[f"{name}, masked"] = lambda s=step, a=theirs: s(a)
        seconds = time_interleaved(functions, repeats=repeats)
        for name, pattern in patterns.items():
            chosen = choose(pattern, axis, batch=1, heads=HEADS, head_dim=DIM, dtype=dtype).backend
            bar = BARS.get((name, length, kind)) if bars and not split else None
            case = f"{name} at {length}, {kind}"
            share = seconds[name] / seconds["no mask"]
            allowed = float(pattern.dense(axis).double().mean())
            rows.append(
                ratio_row(
                    f"{case}, against dense SDPA without a mask"
                    + (", heads split from (B, S, H, D)" if split else ""),
                    seconds[name], seconds["no mask"], at_least=None if bar is None else 1 / bar,
                    note=f"{share:.3f} of dense; {allowed:.3f} of the pairs may attend; {chosen}"
                    + (f"; at most {bar}" if bar else ""),
                )
            )  # fmt: skip
            if not split:
                share = seconds[name] / seconds[f"{name}, masked"]
                rows.append(
                    ratio_row(
                        f"{case}, against SDPA with the mask",
                        seconds[name], seconds[f"{name}, masked"],
                        note=f"{share:.3f} of masked",
                    )
                )  # fmt: skip
    return rows


def _against_the_flag(length: int, repeats: int, *, bar: bool) -> list[Row]:
    """Causal attention: SDPA has a flag for it, which skips half of the work by itself."""
    rows, axis = [], Axis(length)
    for kind, dtype in TYPES.items():
        step = Step(length, dtype)
        functions: dict[str, Callable[..., Tensor]] = {
            "attend": ours(causal, axis),
            "blocksparse": lambda q, k, v: attend(q, k, v, causal, q=axis, backend="blocksparse"),
            "flag": lambda q, k, v: SDPA(q, k, v, is_causal=True),
        }
        for function in functions.values():
            check(step, function, functions["flag"])
        seconds = time_interleaved(
            {name: lambda s=step, a=f: s(a) for name, f in functions.items()}, repeats=repeats
        )
        rows += [
            ratio_row(
                f"causal at {length}, {kind}, against SDPA's is_causal",
                seconds["attend"], seconds["flag"], at_least=1 / 1.03 if bar else None,
                note="it is the flag; no slower, but for 3% of noise",
            ),
            ratio_row(
                f"causal at {length}, {kind}, by blocks, against SDPA's is_causal",
                seconds["blocksparse"], seconds["flag"],
                note="asked for by name: what a causal part of another pattern costs",
            ),
        ]  # fmt: skip
    return rows


def _mix(length: int, repeats: int, *, bar: bool) -> Row:
    """A mix against the time that its share of blocks of 128 would take of dense SDPA."""
    first = torch.arange(length) % (length // 4) < 16
    axis = Axis.packed([length // 4] * 4, first=first)
    pattern = causal & documents & (window(length // 32) | global_tokens("first"))
    step = Step(length, torch.float32)
    mine = ours(pattern, axis)
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
import sys, torch
from maskwright.attention import attend, window
torch.set_num_threads(1)
length, heads, dim = map(int, sys.argv[1:])
leaves = [torch.randn(1, heads, length, dim, requires_grad=True) for _ in range(3)]
attend(*leaves, window(255, 0)).sum().backward()
assert all(leaf.grad.isfinite().all() for leaf in leaves)
# not ru_maxrss, which starts from that of the process that forked this one
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
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
