"""Masking: a policy, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from maskwright import randomness
from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.corruption.act import BERT_ACTS, Act, Mixture, complete
from maskwright.corruption.arrange import Arrange
from maskwright.corruption.emit import Emit, MaskedBatch, Mlm
from maskwright.corruption.plan import IN_PLACE, Action, MaskPlan
from maskwright.corruption.rate import (
    Rate,
    SampledRate,
    TwoPointRate,
    check_setting,
    rates_of,
    whole_rates,
)
from maskwright.corruption.refresh import (
    Coverage,
    Dynamic,
    Refresh,
    RollingWindow,
    parse_refresh,
)
from maskwright.corruption.rolling import check_rolling, tiled
from maskwright.corruption.select import Select, Tokens
from maskwright.corruption.selection import Draw, Selection
from maskwright.errors import BatchError, PolicyError, VocabularyError
from maskwright.ragged import Side
from maskwright.vocabulary import Vocabulary

_WRITES_MASK = {Action.MASK, Action.INFILL}
_JOINS = {Action.SENTINEL, Action.INFILL}


@dataclass(frozen=True)
class Masking:
    """What to select, how much, what to do with it, and when to draw again.

    A plan is a pure function of (policy, tokens, sample ids, clock), and of the scores of the batch
    where the select goes by them: it reads and writes no global random state, and a sample's mask
    does not depend on the batch that it is in.

    Args:
        select: which tokens.
        rate: share of the maskable tokens, 0 to 1; or a schedule of it; or `SampledRate`, drawn for
            each sample.
        act: what happens to a selected unit; ``0.8 * Mask() + 0.1 * Random() + 0.1 * Keep()``
            unless given.
        refresh: ``"static"``, ``"dynamic"``, ``"rotating-10"``, ``"every-1000-steps"``,
            ``"coverage-0.15"``, ``"window-512"``, or a `Refresh`.
        exact: select exactly ``rate`` of each sample's maskable tokens (rounded up or down by
            chance, so that the mean is the rate) instead of drawing each on its own.
        at_least: with ``exact``, the fewest tokens to select in a sample.
        arrange: a new order of the tokens, such as shuffled sentences.
        emit: what a plan becomes.
        stream: two policies of one run that must be independent take different numbers.
        vocabulary: the ids that it works on; `bind` sets it.

    Raises:
        PolicyError: a value is outside its rule, or ``emit`` cannot show what ``act`` does.

    >>> Masking(rate=0.3, refresh="static")
    Masking(tokens, rate 0.3, 0.8 mask + 0.1 random + 0.1 keep, static)
    """

    select: Select = field(default_factory=Tokens)
    rate: Rate = 0.15
    act: Act | Mixture = BERT_ACTS
    refresh: Refresh | str = field(default_factory=Dynamic)
    exact: bool = False
    at_least: int = 0
    arrange: Arrange | None = None
    emit: Emit = field(default_factory=Mlm)
    stream: int = 0
    vocabulary: Vocabulary | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.refresh, str):
            object.__setattr__(self, "refresh", parse_refresh(self.refresh))
        for name, kind in (("select", Select), ("refresh", Refresh), ("emit", Emit)):
            if not isinstance(getattr(self, name), kind):
                raise PolicyError(
                    f"Masking.{name} got {getattr(self, name)!r}, which is no {name}."
                )
        if not isinstance(self.act, Act | Mixture):
            raise PolicyError(f"Masking.act got {self.act!r}, which is no act.")
        complete(self.act)
        check_setting(self.rate)
        if self.at_least < 0 or (self.at_least and not self.exact):
            raise PolicyError(
                f"Masking.at_least counts tokens of a sample and needs exact=True; got "
                f"at_least={self.at_least}, exact={self.exact}."
            )
        if isinstance(self.refresh, Coverage) and self.refresh.rate != self.rate:
            raise PolicyError(
                f"A coverage refresh sets the rate of an epoch: rate={self.rate} must be its "
                f"{self.refresh.rate:g}."
            )
        if isinstance(self.refresh, RollingWindow):
            check_rolling(self)
        self.emit.check(self)

    def bind(self, vocabulary: Vocabulary) -> Masking:
        """The same policy on a vocabulary.

        Raises:
            VocabularyError: the policy writes a mask token, sentinels or random tokens, and the
                vocabulary has none.
        """
        codes = {act.code for share, act in self.act.parts if share}
        if codes & _WRITES_MASK:
            vocabulary.require_mask()
        if Action.RANDOM in codes:
            vocabulary.require_replacements()
        if Action.SENTINEL in codes:
            vocabulary.require_sentinels()
        return replace(self, vocabulary=vocabulary)

    @property
    def bound(self) -> Vocabulary:
        """The vocabulary, or an error that says how to set it."""
        if self.vocabulary is None:
            raise PolicyError(
                "This policy knows no vocabulary yet. Bind it: "
                "masking.bind(Vocabulary.from_tokenizer(tokenizer)); MaskingCollator does."
            )
        return self.vocabulary

    @property
    def reads_scores(self) -> bool:
        """Whether it asks a batch for scores."""
        return self.select.reads_scores

    def plan(self, batch: TokenBatch, clock: Clock | None = None) -> MaskPlan:
        """Chooses the tokens of a batch.

        Raises:
            PolicyError: the policy is not bound, a schedule leaves 0 … 1, or the refresh needs
                what the clock does not know.
            BatchError: an id of the batch is not in the vocabulary.
            VocabularyError: a sample has more units than there are sentinels.
        """
        clock = clock or Clock()
        vocabulary = self.bound
        _check_ids(batch.tokens.values, vocabulary)
        if not isinstance(self.refresh, RollingWindow):
            draw = self.draw(batch, clock)
            selection = self.select(batch, vocabulary, draw)
            return self._act(batch, batch, clock, draw, selection)
        tiles = tiled(self, batch, vocabulary, clock)
        draw = self.draw(tiles, clock)
        try:
            selection = self.select(tiles, vocabulary, draw)
        except BatchError:
            # nobody knows the ids of tiles: let the error name the sample
            self.select(batch, vocabulary, self.draw(batch, clock))
            raise
        return self._act(batch, tiles, clock, draw, selection)

    def mask(
        self,
        batch: TokenBatch,
        clock: Clock | None = None,
        *,
        side: Side = "right",
        length: int | None = None,
        multiple: int = 1,
    ) -> MaskedBatch:
        """Plans a batch and emits it: ``emit(plan(batch, clock), …)``, bit for bit.

        Single tokens by chance with acts in place, under `Mlm`, take one pass, and their plan is
        made only if somebody asks the batch for it. Raises as `plan` and the emit do.
        """
        clock = clock or Clock()
        if self._elementwise:
            # numba is slow to import: only those who draw masks wait for it
            from maskwright.corruption import fused

            masked = fused.mask(self, batch, clock, side, length, multiple)
            if masked is not None:
                return masked
        return self.emit(self.plan(batch, clock), side=side, length=length, multiple=multiple)

    def draw(self, batch: TokenBatch, clock: Clock) -> Draw:
        """How units of a batch are drawn at a moment."""
        assert not isinstance(self.refresh, str)
        key = randomness.run_key(clock.seed, self.stream, self.refresh.key(clock))
        rates = rates_of(self.rate, batch, clock, key)
        if self.exact and isinstance(self.rate, SampledRate):
            rates = whole_rates(self.rate, rates, batch, self.bound, self.at_least)
        low = np.zeros(len(batch))
        if covering := isinstance(self.refresh, Coverage):
            first, last = self.refresh.window(clock)
            low, rates = np.full(len(batch), first), np.full(len(batch), last)
        return Draw(key, low, rates, self.exact, self.at_least, clock, covering)

    def _act(
        self, batch: TokenBatch, drawn: TokenBatch, clock: Clock, draw: Draw, selection: Selection
    ) -> MaskPlan:
        """Draws what happens to each unit; ``drawn`` is the batch, or its tiles."""
        from maskwright.corruption import kernels

        vocabulary, tokens, positions = self.bound, drawn.tokens, selection.positions
        codes, limits = self._acts
        units = selection.units
        if units is None and self._joins:
            units = adjacent(positions, tokens.offsets)
        actions = np.empty(len(positions), np.uint8)
        replacements = np.empty(len(positions), np.int64)
        mask_id = -1 if vocabulary.mask_id is None else vocabulary.mask_id
        where = (tokens.values, tokens.offsets, drawn.sample_ids, np.uint64(draw.run_key))
        if units is None and self._plain:
            lacking = -1
            kernels.act_in_place(
                *where, positions, codes, limits, mask_id, vocabulary.replacements, actions,
                replacements,
            )  # fmt: skip
        else:
            lacking = kernels.act(
                *where, positions, kernels.NO_UNITS if units is None else units, codes, limits,
                mask_id, vocabulary.replacements, vocabulary.sentinels, actions, replacements,
            )  # fmt: skip
        if lacking >= 0:
            raise VocabularyError(
                f"Sample {batch.sample_ids[lacking]} has more units than the "
                f"{len(vocabulary.sentinels)} sentinels of {vocabulary.name!r}. Use longer spans, "
                "a lower rate or shorter samples."
            )
        inserts = kernels.NO_UNITS if selection.inserts is None else selection.inserts
        order = None
        if self.arrange is not None:
            order = self.arrange(batch, vocabulary, draw.run_key)
        rates = draw.rates
        if drawn is not batch:  # a number, since it keeps tiles
            rates = rates_of(self.rate, batch, clock, draw.run_key)
        return MaskPlan(
            batch, self, clock, positions, actions, replacements, rates, units, inserts,
            self._inserted(batch, draw, inserts), order,
        )  # fmt: skip

    def _inserted(self, batch: TokenBatch, draw: Draw, inserts: np.ndarray) -> np.ndarray:
        """What stands for each empty unit: the mask token, or a random one in its share.

        A policy's acts on empty units: ``Random`` puts a random token, every other act a mask.
        """
        if not len(inserts):
            return inserts
        vocabulary, tokens = self.bound, batch.tokens
        random = sum(share for share, act in self.act.parts if act.code == Action.RANDOM)
        if not random:
            return np.full(len(inserts), vocabulary.require_mask())
        rows = np.searchsorted(tokens.offsets, inserts, side="right") - 1
        # empty units before one token are numbered, so that each has draws of its own
        number = np.arange(len(inserts)) - np.searchsorted(inserts, inserts)
        keys = draw.keys(batch, randomness.INSERT)[rows]
        counters = (inserts - tokens.offsets[rows]) * 64 + number
        drawn = randomness.draw_array(keys, 2 * counters) >> np.uint64(11)
        second = randomness.draw_array(keys, 2 * counters + 1) >> np.uint64(32)
        many = np.uint64(len(vocabulary.require_replacements()))
        chosen = vocabulary.replacements[((second * many) >> np.uint64(32)).astype(np.int64)]
        out = np.where(drawn < randomness.threshold(random), chosen, -1)
        if (out < 0).any():
            out[out < 0] = vocabulary.require_mask()
        return out

    @cached_property
    def _joins(self) -> bool:
        """Whether one token may stand for a whole unit."""
        return not _JOINS.isdisjoint(self._acts[0].tolist())

    @cached_property
    def _plain(self) -> bool:
        """Whether the acts are those of the fast kernel."""
        codes = self._acts[0]
        return len(codes) <= 3 and set(codes.tolist()) <= set(IN_PLACE)

    @cached_property
    def _elementwise(self) -> bool:
        """Whether each token is decided on its own, at a rate that all samples share, and the
        labels stand where the tokens stood: what `fused` does."""
        return (
            type(self.select) is Tokens
            and not isinstance(self.rate, SampledRate | TwoPointRate)
            and not self.exact
            and self.arrange is None
            and type(self.emit) is Mlm
            and self._plain
        )

    @cached_property
    def _acts(self) -> tuple[np.ndarray, np.ndarray]:
        """The codes of the acts that have a share, and their cumulated shares as thresholds."""
        parts = [(share, act.code) for share, act in self.act.parts if share]
        shares = np.cumsum([share for share, _ in parts])
        limits = np.array([randomness.threshold(share) for share in shares], np.uint64)
        return np.array([code for _, code in parts], np.uint8), limits

    def __repr__(self) -> str:
        parts = [str(self.select), f"rate {self.rate}", str(self.act), str(self.refresh)]
        if self.exact:
            parts.append("exact" + (f", at least {self.at_least}" if self.at_least else ""))
        if self.arrange is not None:
            parts.append(str(self.arrange))
        if not isinstance(self.emit, Mlm):
            parts.append(f"as {self.emit}")
        if self.stream:
            parts.append(f"stream {self.stream}")
        return f"Masking({', '.join(parts)})"


def adjacent(positions: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Numbers runs of neighbouring positions of one sample."""
    if not len(positions):
        return positions
    rows = np.searchsorted(offsets, positions, side="right")
    breaks = (np.diff(positions) != 1) | (np.diff(rows) != 0)
    return np.concatenate(([0], np.cumsum(breaks)))


def _check_ids(values: np.ndarray, vocabulary: Vocabulary) -> None:
    if not len(values):
        return
    if values.dtype.kind not in "iu":
        raise BatchError(f"Token ids must be integers, got {values.dtype}.")
    # seen as unsigned, a negative id is one above the dtype's own: one pass instead of two
    size = min(vocabulary.size, int(np.iinfo(values.dtype).max) + 1)
    if values.view(values.dtype.str.replace("i", "u")).max() >= size:
        lowest, highest = int(values.min()), int(values.max())
        raise BatchError(
            f"Token id {lowest if lowest < 0 else highest} is outside the vocabulary of "
            f"{vocabulary.name or 'this policy'} (0 … {vocabulary.size - 1}). Were the tokens made "
            "by another tokenizer?"
        )
