"""Elementwise policies where the tokens already are: the CPU kernels' draws in torch operations.

The same counter-based hash in signed 64-bit integers, so that an accelerator selects, masks and
replaces exactly the tokens that the CPU would. No value is read back, and whatever changes from
step to step is a tensor, so that all of it compiles into one graph, once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from maskwright import randomness
from maskwright.clock import Clock
from maskwright.corruption.emit.batch import IGNORE
from maskwright.corruption.emit.diffusion import Diffusion
from maskwright.corruption.plan import IN_PLACE, Action
from maskwright.corruption.rate import SampledRate, TwoPointRate, rate_at
from maskwright.corruption.refresh import Coverage, RollingWindow
from maskwright.corruption.select import Tokens
from maskwright.errors import BatchError, PolicyError
from maskwright.torch_randomness import GAMMA, mix, shift, signed

if TYPE_CHECKING:
    from maskwright.corruption.masking import Masking


@dataclass(frozen=True, eq=False)
class DeviceDraw:
    """A policy at a moment, as tensors on a device. Make it with `of`, move it on with `at`.

    Args:
        masking: the policy.
        run_key: ``()`` int64, the bits of `randomness.run_key`.
        low, high: ``()`` int64: the 53-bit draws that are selected.
        rates: the bounds of a `SampledRate`, else ``None``.
        least: the smallest rate to divide by in a weight, of `Diffusion`.
        maskable: ``(V,)`` bool.
        replacements: ``(R,)`` int64.
        mask_id: ``()`` int64, -1 where there is none.
        acts: the name of each act that has a share.
        limits: ``(A,)`` int64: their cumulated shares as thresholds.

    Numbers are tensors and acts are names, because ``torch.compile(dynamic=True)`` turns the ints
    of an argument into symbols, and then mistakes one act for another.
    """

    masking: Masking
    run_key: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    rates: tuple[float, float] | None
    least: float
    maskable: torch.Tensor
    replacements: torch.Tensor
    mask_id: torch.Tensor
    acts: tuple[str, ...]
    limits: torch.Tensor

    @classmethod
    def of(cls, masking: Masking, clock: Clock, device: Any = "cpu") -> DeviceDraw:
        """The policy at a moment.

        Raises:
            PolicyError: the policy is not bound, or not elementwise.
        """
        _require_elementwise(masking)
        vocabulary, rate, emit = masking.bound, masking.rate, masking.emit
        codes, limits = masking._acts
        return cls(
            masking,
            **_moment(masking, clock, device),
            rates=(rate.low, rate.high) if isinstance(rate, SampledRate) else None,
            least=emit.least if isinstance(emit, Diffusion) else Diffusion().least,
            maskable=torch.from_numpy(vocabulary.maskable).to(device),
            replacements=torch.from_numpy(vocabulary.replacements).to(device),
            mask_id=torch.tensor(
                -1 if vocabulary.mask_id is None else vocabulary.mask_id, device=device
            ),
            acts=tuple(Action(code).name for code in codes.tolist()),
            limits=torch.from_numpy(limits.astype("int64")).to(device),
        )

    def at(self, clock: Clock) -> DeviceDraw:
        """The same policy at another moment; its tables are not copied again."""
        return replace(self, **_moment(self.masking, clock, self.run_key.device))


def _moment(masking: Masking, clock: Clock, device: Any) -> dict[str, torch.Tensor]:
    assert not isinstance(masking.refresh, str)
    key = randomness.run_key(clock.seed, masking.stream, masking.refresh.key(clock))
    low, high = 0.0, 1.0
    if isinstance(masking.refresh, Coverage):
        low, high = masking.refresh.window(clock)
    elif not isinstance(masking.rate, SampledRate | TwoPointRate):
        high = rate_at(masking.rate, clock)
    numbers = (signed(key), randomness.threshold(low), randomness.threshold(high))
    made = (torch.tensor(number, dtype=torch.int64, device=device) for number in numbers)
    return dict(zip(("run_key", "low", "high"), made, strict=True))


def mask_on_device(
    input_ids: torch.Tensor,
    sample_ids: torch.Tensor,
    masking: Masking | DeviceDraw,
    clock: Clock | None = None,
    *,
    attention_mask: torch.Tensor | None = None,
    protected: torch.Tensor | None = None,
    starts: torch.Tensor | None = None,
    scores: torch.Tensor | None = None,
    threshold: float | torch.Tensor | None = None,
) -> tuple[torch.Tensor, ...]:
    """Masks a padded batch as `Masking.plan` and `mlm` do, bit for bit, on the device it is on.

    In a training loop, and under ``torch.compile(mask_on_device, fullgraph=True, dynamic=True)``,
    give the policy as a `DeviceDraw`::

        draw = DeviceDraw.of(masking, clock, device)
        inputs, labels = mask_on_device(input_ids, sample_ids, draw.at(clock))

    Args:
        input_ids: ``(B, S)`` int64, padded on either side, all of them ids of the vocabulary.
        sample_ids: ``(B,)`` int64.
        masking: a bound policy of independent single tokens whose acts stay in place: any mixture
            of mask, random and keep; any rate and refresh.
        clock: the moment, unless a `DeviceDraw` has it.
        attention_mask: ``(B, S)``, 0 at padding, without holes. Without it, all places are tokens.
        protected: ``(B, S)``, not 0 where nothing may be selected.
        starts: ``(B,)`` int64, the column of each sample's first token. Unless given, the first
            column that is attended to; positions are counted from it, as the draws are.
        scores, threshold: with both, a token is masked only where ``score > threshold`` *and* its
            draw is below the rate: the rule of guided masking. ``scores`` is ``(B, S)``,
            ``threshold`` a number or ``(B,)``.

    Returns:
        ``input_ids`` ``(B, S)`` as the model sees them and ``labels`` ``(B, S)``, -100 where
        nothing is to be predicted; new tensors. Under a `SampledRate` also the weight of each
        sample's losses, ``(B,)`` float32, as `Diffusion` gives it; it needs float64 on the device.

    Raises:
        PolicyError: the policy is not bound, or not elementwise.
        BatchError: a shape or a dtype is not as above.
    """
    _check_batch(input_ids, sample_ids)
    if (scores is None) != (threshold is None):
        given = "scores" if threshold is None else "threshold"
        raise PolicyError(f"Guided masking takes scores and threshold together; got {given} only.")
    if isinstance(masking, DeviceDraw):
        draw = masking if clock is None else masking.at(clock)
    else:
        draw = DeviceDraw.of(masking, clock or Clock(), input_ids.device)

    counters = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    allowed = draw.maskable[input_ids]
    if attention_mask is not None:
        allowed = allowed & (attention_mask != 0)
        if starts is None:  # the padding on the left; argmax would refuse a batch without columns
            starts = ((attention_mask != 0).cumsum(dim=1) == 0).sum(dim=1)
    if starts is not None:
        counters = counters - starts[:, None]
    if protected is not None:
        allowed = allowed & (protected == 0)

    high, rates = draw.high, None
    if draw.rates is not None:
        rates = _sampled(draw, sample_ids)
        # float64 holds 53 bits, so rounding gives the integer that numpy gives
        high = (rates * 2.0**53).round().to(torch.int64)[:, None]
    u = shift(_draws(draw, sample_ids, randomness.SELECT, counters), 11)
    selected = allowed & (u >= draw.low) & (u < high)
    if scores is not None and threshold is not None:
        least = torch.as_tensor(threshold, device=scores.device)
        selected = selected & (scores > (least[:, None] if least.ndim else least))

    out = torch.where(selected, _replaced(draw, input_ids, sample_ids, counters), input_ids)
    labels = torch.where(selected, input_ids, IGNORE)
    if rates is None:
        return out, labels
    return out, labels, (1 / rates.clamp(min=draw.least)).to(torch.float32)


def _sampled(draw: DeviceDraw, sample_ids: torch.Tensor) -> torch.Tensor:
    """The rate of each sample, ``(B,)`` float64; `rates_of`."""
    assert draw.rates is not None
    low, high = draw.rates
    drawn = shift(mix(_keys(draw, sample_ids, randomness.RATE) + GAMMA), 11)
    return low + (high - low) * (drawn.to(torch.float64) * 2.0**-53)


def _replaced(
    draw: DeviceDraw, input_ids: torch.Tensor, sample_ids: torch.Tensor, counters: torch.Tensor
) -> torch.Tensor:
    """What would stand at each token if it were selected."""
    choice = torch.zeros_like(input_ids)
    if len(draw.acts) > 1:
        u = shift(_draws(draw, sample_ids, randomness.ACT, counters), 11)
        for number in range(len(draw.acts) - 1):
            choice = choice + (u >= draw.limits[number]).to(torch.int64)
    out = input_ids
    for number, act in enumerate(draw.acts):
        if act == "MASK":
            out = torch.where(choice == number, draw.mask_id, out)
        elif act == "RANDOM":
            u = shift(_draws(draw, sample_ids, randomness.REPLACE, counters), 32)
            many = draw.replacements.shape[0]
            out = torch.where(choice == number, draw.replacements[shift(u * many, 32)], out)
    return out


def _check_batch(input_ids: torch.Tensor, sample_ids: torch.Tensor) -> None:
    if input_ids.ndim != 2 or input_ids.dtype != torch.int64:
        raise BatchError(
            f"input_ids must be (B, S) int64, got {tuple(input_ids.shape)} {input_ids.dtype}."
        )
    if sample_ids.shape != input_ids.shape[:1] or sample_ids.dtype != torch.int64:
        raise BatchError(
            f"sample_ids must be ({input_ids.shape[0]},) int64, one per row, got "
            f"{tuple(sample_ids.shape)} {sample_ids.dtype}."
        )


def _require_elementwise(masking: Masking) -> None:
    moving = [str(act) for share, act in masking.act.parts if share and act.code not in IN_PLACE]
    if masking.arrange is not None:
        moving.append(str(masking.arrange))
    # a subclass may select otherwise
    if type(masking.select) is not Tokens:
        reason = f"select={masking.select} looks at more than one token"
    elif masking.exact:
        reason = "exact=True orders the tokens of a sample"
    elif isinstance(masking.rate, TwoPointRate):
        reason = f"the rate {masking.rate} is drawn by the CPU only"
    elif isinstance(masking.refresh, RollingWindow):
        reason = f"the tiles of {masking.refresh} are cut by the CPU only"
    elif moving:
        reason = f"{moving[0]} moves tokens"
    else:
        return
    raise PolicyError(
        f"On a device only elementwise policies run, and {reason}. Mask in the data loader: "
        "MaskingCollator."
    )


# ------------------------------------------------------------------------- the hash


def _draws(
    draw: DeviceDraw, sample_ids: torch.Tensor, purpose: int, counters: torch.Tensor
) -> torch.Tensor:
    """`randomness.draw` at each place, ``(B, S)``."""
    keys = _keys(draw, sample_ids, purpose)[:, None]
    return mix(keys + (counters + 1) * GAMMA)


def _keys(draw: DeviceDraw, sample_ids: torch.Tensor, purpose: int) -> torch.Tensor:
    """`randomness.sample_keys`, ``(B,)``."""
    keys = mix(draw.run_key ^ mix(sample_ids + GAMMA))
    return mix(keys ^ signed(randomness.mix((purpose + randomness.GAMMA) & randomness.WORD)))
