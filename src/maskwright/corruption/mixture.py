"""A mixture of policies: each sample is masked by one of them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import numpy as np

from maskwright import randomness
from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.corruption.act import Mixture
from maskwright.corruption.arrange import Arrange
from maskwright.corruption.emit import Emit, MaskedBatch, Seq2Seq
from maskwright.corruption.masking import Masking
from maskwright.corruption.plan import MaskPlan
from maskwright.corruption.refresh import Dynamic, Refresh, RollingWindow, parse_refresh
from maskwright.errors import PolicyError
from maskwright.ragged import Ragged, Side
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True)
class MixedMasking:
    """Each sample draws one policy by weight and is masked as that policy alone would mask it.

    UL2's mixture of denoisers (2205.05131, section 3.1) is one. It takes the place of a `Masking`
    wherever plans are made.

    Args:
        parts: (weight, policy) each; the weights are taken relative to their sum.
        refresh: when a sample draws its part again; the parts draw their masks by refreshes of
            their own.
        stream: two policies of one run that must be independent take different numbers.
        prefix_ids: an id for each part, put in front of its samples (UL2's mode tokens [R], [S],
            [X]); needs ``emit=Seq2Seq(…)``. A sample without tokens gets none.
        vocabulary: the ids that it works on; `bind` sets it, in the parts too.

    Raises:
        PolicyError: there is no part, a weight is not above 0, parts differ in their emit or
            their vocabulary, or there is a rolling window.
    """

    parts: tuple[tuple[float, Masking], ...]
    refresh: Refresh | str = field(default_factory=Dynamic)
    stream: int = 0
    prefix_ids: tuple[int, ...] = ()
    vocabulary: Vocabulary | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.refresh, str):
            object.__setattr__(self, "refresh", parse_refresh(self.refresh))
        object.__setattr__(self, "parts", tuple((float(w), part) for w, part in self.parts))
        if not self.parts:
            raise PolicyError("MixedMasking needs at least one (weight, Masking(…)), got none.")
        for weight, part in self.parts:
            if not isinstance(part, Masking):
                raise PolicyError(f"A part of MixedMasking must be a Masking, got {part!r}.")
            if not 0 < weight < float("inf"):
                raise PolicyError(
                    f"A weight of MixedMasking must be above 0, got {weight} for {part!r}. Leave a "
                    "policy out instead."
                )
        for _, part in self.parts[1:]:
            if part.emit != self.emit:
                raise PolicyError(
                    f"The parts of MixedMasking make one batch, so they must share their emit; got "
                    f"{self.emit} and {part.emit}."
                )
            if part.vocabulary != self.parts[0][1].vocabulary:
                raise PolicyError(
                    "The parts of MixedMasking are bound to different vocabularies. Bind the "
                    "mixture instead: MixedMasking(…).bind(vocabulary)."
                )
        for refresh in (self.refresh, *(part.refresh for _, part in self.parts)):
            if isinstance(refresh, RollingWindow):
                raise PolicyError(
                    f"MixedMasking masks a sample by one of its parts, all of it; refresh="
                    f'"{refresh}" draws it tile by tile. Use refresh="dynamic", or a Masking alone.'
                )
        if self.vocabulary is None:
            object.__setattr__(self, "vocabulary", self.parts[0][1].vocabulary)
        self._check_prefixes()

    def _check_prefixes(self) -> None:
        if not self.prefix_ids:
            return
        if len(self.prefix_ids) != len(self.parts):
            raise PolicyError(
                f"MixedMasking.prefix_ids must be one id for each of the {len(self.parts)} parts, "
                f"got {len(self.prefix_ids)}."
            )
        if not isinstance(self.emit, Seq2Seq):
            raise PolicyError(
                f"MixedMasking.prefix_ids put tokens in front, which the emit {self.emit} cannot "
                "show. Use emit=Seq2Seq(…), or no prefix_ids."
            )
        known = self.vocabulary
        if known is None:
            return
        for prefix in self.prefix_ids:
            if not 0 <= prefix < known.size or prefix == known.mask_id:
                raise PolicyError(
                    f"MixedMasking.prefix_ids got {prefix}; a prefix is an id of the vocabulary "
                    f"(0 … {known.size - 1}) and not its mask token {known.mask_id}."
                )

    def bind(self, vocabulary: Vocabulary) -> MixedMasking:
        """The same mixture on a vocabulary, in every part.

        Raises:
            VocabularyError: a part writes what the vocabulary does not have.
        """
        parts = tuple((weight, part.bind(vocabulary)) for weight, part in self.parts)
        return replace(self, parts=parts, vocabulary=vocabulary)

    @property
    def bound(self) -> Vocabulary:
        """The vocabulary, or an error that says how to set it."""
        return self.parts[0][1].bound

    @property
    def reads_scores(self) -> bool:
        """Whether a part asks a batch for scores."""
        return any(part.reads_scores for _, part in self.parts)

    @property
    def emit(self) -> Emit:
        """What a plan becomes; the same for all parts."""
        return self.parts[0][1].emit

    @property
    def act(self) -> Mixture:
        """The acts of all parts, with their shares of the mixture."""
        return Mixture(
            tuple(
                (weight / self._total * share, act)
                for weight, part in self.parts
                for share, act in part.act.parts
            )
        )

    @property
    def arrange(self) -> Arrange | None:
        """The first rearrangement of a part, if any has one."""
        found = (part.arrange for _, part in self.parts if part.arrange is not None)
        return next(found, None)

    def choose(self, batch: TokenBatch, clock: Clock | None = None) -> np.ndarray:
        """The part that each sample draws, ``(B,)`` int64."""
        assert not isinstance(self.refresh, str)
        clock = clock or Clock()
        key = randomness.run_key(clock.seed, self.stream, self.refresh.key(clock))
        keys = randomness.sample_keys(key, batch.sample_ids, randomness.MIXTURE)
        draws = randomness.draw_array(keys, np.zeros(len(keys), np.int64)) >> np.uint64(11)
        return np.searchsorted(self._limits, draws, side="right")

    def plan(self, batch: TokenBatch, clock: Clock | None = None) -> MaskPlan:
        """Chooses the tokens of a batch; raises as `Masking.plan` does."""
        clock = clock or Clock()
        chosen = self.choose(batch, clock)
        plans, rows = [], []
        for number, (_, part) in enumerate(self.parts):
            own = np.flatnonzero(chosen == number)
            # an empty batch is planned too: by the first part
            if len(own) or not (len(batch) or plans):
                plans.append(part.plan(_take(batch, own), clock))
                rows.append(own)
        merged = _merged(self, batch, clock, plans, rows)
        return self._with_prefixes(merged, chosen) if self.prefix_ids else merged

    def mask(
        self,
        batch: TokenBatch,
        clock: Clock | None = None,
        *,
        side: Side = "right",
        length: int | None = None,
        multiple: int = 1,
    ) -> MaskedBatch:
        """Plans a batch and emits it: ``emit(plan(batch, clock), …)``."""
        return self.emit(self.plan(batch, clock), side=side, length=length, multiple=multiple)

    def _with_prefixes(self, plan: MaskPlan, chosen: np.ndarray) -> MaskPlan:
        tokens = plan.batch.tokens
        some = np.flatnonzero(tokens.lengths)
        first = tokens.offsets[:-1][some]
        if plan.order is not None:
            first = plan.order[first]  # what is read first comes after the prefix
        inserts = np.concatenate([first, plan.inserts])
        inserted = np.concatenate([np.array(self.prefix_ids)[chosen[some]], plan.inserted])
        # prefixes were put first, and a stable sort leaves them before empty units at their place
        order = np.argsort(inserts, kind="stable")
        return replace(plan, inserts=inserts[order], inserted=inserted[order])

    @cached_property
    def _total(self) -> float:
        return sum(weight for weight, _ in self.parts)

    @cached_property
    def _limits(self) -> np.ndarray:
        """The cumulated weights as thresholds; the last part takes what rounding leaves."""
        sums = np.cumsum([weight for weight, _ in self.parts])[:-1] / self._total
        return np.array([randomness.threshold(float(share)) for share in sums], np.uint64)

    def __repr__(self) -> str:
        parts = ", ".join(f"{weight / self._total:.3g} {part!r}" for weight, part in self.parts)
        return f"MixedMasking({parts}, {self.refresh})"


def _take(batch: TokenBatch, rows: np.ndarray) -> TokenBatch:
    """The given samples, with every column that the batch has."""
    changes = {}
    for column in fields(batch):
        value = getattr(batch, column.name)
        if isinstance(value, Ragged):
            changes[column.name] = value.take(rows)
    return replace(batch, sample_ids=batch.sample_ids[rows], **changes)


def _merged(
    masking: MixedMasking,
    batch: TokenBatch,
    clock: Clock,
    plans: list[MaskPlan],
    rows: list[np.ndarray],
) -> MaskPlan:
    """One plan for the whole batch, of plans for some of its samples each."""
    offsets = batch.tokens.offsets
    # where each token of a part's batch is in the whole batch
    sources = [
        np.repeat(offsets[:-1][own] - plan.batch.tokens.offsets[:-1], plan.batch.tokens.lengths)
        + np.arange(len(plan.batch.tokens.values))
        for plan, own in zip(plans, rows, strict=True)
    ]
    pairs = list(zip(plans, sources, strict=True))
    rates = np.zeros(len(batch))
    for plan, own in zip(plans, rows, strict=True):
        rates[own] = plan.rates
    positions = np.concatenate([source[plan.positions] for plan, source in pairs])
    by_position = np.argsort(positions)
    units = None
    if any(plan.units is not None for plan in plans):
        units = _units(plans)[by_position]
        units = np.concatenate(([0], np.cumsum(units[1:] != units[:-1])))[: len(units)]
    inserts = np.concatenate([source[plan.inserts] for plan, source in pairs])
    by_insert = np.argsort(inserts, kind="stable")
    order = None
    if any(plan.order is not None for plan in plans):
        order = np.arange(offsets[-1])
        for plan, source in pairs:
            if plan.order is not None:
                order[source] = source[plan.order]
    return MaskPlan(
        batch, masking, clock, positions[by_position],
        np.concatenate([plan.actions for plan in plans])[by_position],
        np.concatenate([plan.replacements for plan in plans])[by_position],
        rates, units, inserts[by_insert],
        np.concatenate([plan.inserted for plan in plans])[by_insert], order,
    )  # fmt: skip


def _units(plans: list[MaskPlan]) -> np.ndarray:
    """The unit of each selected token, numbered on from one plan to the next."""
    parts, first = [], 0
    for plan in plans:
        own = np.arange(len(plan.positions)) if plan.units is None else plan.units
        parts.append(own + first)
        first += int(own.max(initial=-1)) + 1
    return np.concatenate(parts)
