"""A model under the masks of a variant: what it is trained on, and how it writes afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from maskwright.attention import causal, to_json
from maskwright.attention.rules.streaming import WaitK, fraction
from maskwright.corruption import Masking, Mlm
from maskwright.corruption.act import Mask
from maskwright.corruption.decoder_recipes import decoder_masking
from maskwright.errors import ModelError
from maskwright.hf.pairs.collator import PairCollator
from maskwright.hf.pairs.scheduled_sampling import ScheduledSampling
from maskwright.lab.translate.attached import attach_masks
from maskwright.lab.translate.budget import Budget
from maskwright.lab.translate.config import Variant
from maskwright.lab.translate.generation import Write, writer
from maskwright.lab.translate.preparation import PreparedPairs


class Masked:
    """A model with patterns attached, if its variant has any, and with the collator of its masks.

    Args:
        model: what is kept in the end.
        variant: its masks.
        prepared: tokenizers.
        seed: of the masks.

    Attributes:
        trained: what the trainer is given; ``model``, or what trains beside it, too.
        pairs: to train on.
        callbacks, trainer_options: further ones of the trainer.
    """

    def __init__(self, model: Any, variant: Variant, prepared: PreparedPairs, *, seed: int) -> None:
        self.model = self.trained = model
        self.variant = variant
        self.prepared = prepared
        self.seed = seed
        self.pairs = prepared.aligned if variant.decoder.aligned else prepared.train
        self.callbacks: list[Any] = []
        self.trainer_options: dict[str, Any] = {}
        self.patterns = patterns = fitting(model, variant.cross.patterns)
        self.attachment = attach_masks(model, patterns, variant.cross.by_score)
        if variant.decoder.mask == "scheduled-sampling":
            rate = variant.decoder.rate
            sampling = ScheduledSampling() if rate is None else ScheduledSampling(rate)
            self.trainer_options["scheduled_sampling"] = sampling
        self.collator = self._collator()
        self.evaluation_collator = self.collator.for_evaluation()
        self.evaluation_collator.set_clock(0)  # what is filled in is the same at each evaluation

    def _collator(self) -> PairCollator:
        decoder, prepared = self.variant.decoder, self.prepared
        start = int(self.model.config.decoder_start_token_id)
        target: Masking | None = None
        if decoder.mask not in ("none", "scheduled-sampling"):
            target = decoder_masking(decoder.mask, start_id=start, rate=decoder.rate)
        source = None
        if decoder.source_rate:
            source = Masking(rate=decoder.source_rate, act=Mask(), emit=Mlm())
        two = prepared.target_tokenizer is not prepared.tokenizer
        return PairCollator(
            prepared.tokenizer,
            target_tokenizer=prepared.target_tokenizer if two else None,
            source=source,
            target=target,
            model=self.model,
            seed=self.seed,
        )

    @property
    def perplexed(self) -> bool:
        """Whether its held-out loss is that of a left-to-right model, and can be compared."""
        return not self.variant.decoder.iterative

    def writers(self, evaluation: dict[str, Any]) -> dict[str, Write]:
        """The ways to write a text, by name, of `TranslationEvaluation` as JSON."""
        length = self.prepared.max_length - 1
        named = {way(number): number for number in evaluation["beams"]}
        return {
            name: writer(self.model, beams=number, max_new_tokens=length)
            for name, number in named.items()
        }

    @property
    def delay(self) -> Callable[[int], int] | None:
        """How many source tokens are read before the target token of a number, from 0, is written;
        None where all of them are."""
        cross, encoder = (self.variant.cross.patterns.get(role) for role in ("cross", "encoder"))
        if not isinstance(cross, WaitK) or encoder is not causal:
            return None
        over, under = fraction(cross.rate)
        return lambda place: cross.k + -(-over * (place + 1) // under) + -over // under

    def follow(self, budget: Budget) -> None:
        """Before training: by this budget what changes in its course may go."""

    def finish(self) -> None:
        """After training: what was learned becomes what is kept."""

    def kept(self) -> dict[str, Any]:
        """What is to be attached to the saved model before it writes, as JSON."""
        patterns = {role: to_json(pattern) for role, pattern in self.patterns.items()}
        return {**patterns, **self.variant.cross.by_score}

    def save(self, folder: Path) -> None:
        """What goes beside the model."""

    def close(self) -> None:
        """Take everything off the model."""
        if self.attachment is not None:
            self.attachment.detach()


def fitting(model: Any, patterns: dict[str, Any]) -> dict[str, Any]:
    """Patterns without one that the model obeys by itself: an LSTM reads in one direction.

    Raises:
        ModelError: it reads in both, and is to look back only.
    """
    if model.config.model_type != "maskwright_lstm" or patterns.get("encoder") is not causal:
        return patterns
    if model.config.bidirectional:
        raise ModelError(
            "This mask lets the encoder look back only, and the LSTM's reads both ways. Use "
            "--set model.bidirectional=false"
        )
    return {role: pattern for role, pattern in patterns.items() if role != "encoder"}


def way(beams: int) -> str:
    """What writing with so many beams is called."""
    return "greedy" if beams == 1 else f"{beams} beams"
