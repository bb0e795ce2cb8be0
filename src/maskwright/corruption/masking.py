"""Masking: a policy, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from maskwright import randomness
from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.corruption.act import BERT_ACTS, Act, Mixture, complete
from maskwright.corruption.plan import Action, MaskPlan
from maskwright.corruption.refresh import Dynamic, Refresh, parse_refresh
from maskwright.corruption.select import Select, Tokens
from maskwright.errors import BatchError, PolicyError
from maskwright.schedule import Constant, Schedule, value_at
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True)
class Masking:
    """What to select, how much, what to do with it, and when to draw again.

    A plan is a pure function of (policy, tokens, sample ids, clock): it reads and writes no global
    random state, and a sample's mask does not depend on the batch that it is in.

    Args:
        select: which tokens.
        rate: share of the maskable tokens, 0 to 1, or a schedule of it.
        act: what happens to a selected token; ``0.8 * Mask() + 0.1 * Random() + 0.1 * Keep()``
            unless given.
        refresh: ``"static"``, ``"dynamic"``, ``"rotating-10"``, ``"every-1000-steps"``, or a
            `Refresh`.
        exact: select exactly ``rate`` of each sample's maskable tokens (rounded up or down by
            chance, so that the mean is the rate) instead of drawing each on its own.
        at_least: with ``exact``, the fewest tokens to select in a sample.
        stream: two policies of one run that must be independent take different numbers.
        vocabulary: the ids that it works on; `bind` sets it.

    Raises:
        PolicyError: a value is outside its rule.

    >>> Masking(rate=0.3, refresh="static")
    Masking(tokens, rate 0.3, 0.8 mask + 0.1 random + 0.1 keep, static)
    """

    select: Select = field(default_factory=Tokens)
    rate: float | Schedule = 0.15
    act: Act | Mixture = BERT_ACTS
    refresh: Refresh | str = field(default_factory=Dynamic)
    exact: bool = False
    at_least: int = 0
    stream: int = 0
    vocabulary: Vocabulary | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.refresh, str):
            object.__setattr__(self, "refresh", parse_refresh(self.refresh))
        for name, protocol in (("select", Select), ("refresh", Refresh)):
            if not isinstance(getattr(self, name), protocol):
                raise PolicyError(
                    f"Masking.{name} got {getattr(self, name)!r}, which is no {name}."
                )
        if not isinstance(self.act, Act | Mixture):
            raise PolicyError(f"Masking.act got {self.act!r}, which is no act.")
        complete(self.act)
        if not isinstance(self.rate, Schedule):
            _check_rate(self.rate)
        elif isinstance(self.rate, Constant):
            _check_rate(self.rate.value)
        if self.at_least < 0 or (self.at_least and not self.exact):
            raise PolicyError(
                f"Masking.at_least counts tokens of a sample and needs exact=True; got "
                f"at_least={self.at_least}, exact={self.exact}."
            )

    def bind(self, vocabulary: Vocabulary) -> Masking:
        """The same policy on a vocabulary.

        Raises:
            VocabularyError: the policy writes a mask token or draws random ones, and the
                vocabulary has none.
        """
        codes = {act.code for share, act in self.act.parts if share}
        if Action.MASK in codes:
            vocabulary.require_mask()
        if Action.RANDOM in codes:
            vocabulary.require_replacements()
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

    def plan(self, batch: TokenBatch, clock: Clock | None = None) -> MaskPlan:
        """Chooses the tokens of a batch.

        Raises:
            PolicyError: the policy is not bound, a schedule leaves 0 … 1, or the refresh needs
                what the clock does not know.
            BatchError: an id of the batch is not in the vocabulary.
        """
        from maskwright.corruption import kernels

        clock = clock or Clock()
        vocabulary = self.bound
        tokens = batch.tokens
        _check_ids(tokens.values, vocabulary)
        rate = value_at(self.rate, clock)
        _check_rate(rate)
        assert not isinstance(self.refresh, str)
        key = randomness.run_key(clock.seed, self.stream, self.refresh.key(clock))
        positions = self.select.positions(
            batch,
            vocabulary.maskable,
            rate=rate,
            exact=self.exact,
            at_least=self.at_least,
            run_key=key,
        )
        actions = np.empty(len(positions), np.uint8)
        replacements = np.empty(len(positions), np.int64)
        codes, limits = self._acts
        kernels.act(
            tokens.values, tokens.offsets, batch.sample_ids, np.uint64(key), positions, codes,
            limits, -1 if vocabulary.mask_id is None else vocabulary.mask_id,
            vocabulary.replacements, actions, replacements,
        )  # fmt: skip
        return MaskPlan(batch, self, clock, positions, actions, replacements, rate)

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
        if self.stream:
            parts.append(f"stream {self.stream}")
        return f"Masking({', '.join(parts)})"


def _check_rate(rate: float) -> None:
    # not (0 <= NaN <= 1) holds too
    if not isinstance(rate, int | float) or not 0 <= rate <= 1:
        raise PolicyError(f"A mask rate is a share from 0 to 1, got {rate!r}. 15% is 0.15.")


def _check_ids(values: np.ndarray, vocabulary: Vocabulary) -> None:
    if not len(values):
        return
    if values.dtype.kind not in "iu":
        raise BatchError(f"Token ids must be integers, got {values.dtype}.")
    # seen as unsigned, a negative id is a huge one: one pass instead of two
    if values.view(values.dtype.str.replace("i", "u")).max() >= vocabulary.size:
        lowest, highest = int(values.min()), int(values.max())
        raise BatchError(
            f"Token id {lowest if lowest < 0 else highest} is outside the vocabulary of "
            f"{vocabulary.name or 'this policy'} (0 … {vocabulary.size - 1}). Were the tokens made "
            "by another tokenizer?"
        )
