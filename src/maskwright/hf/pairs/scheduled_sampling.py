"""Scheduled sampling: a decoder that reads its own predictions in place of some target tokens."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskwright import randomness
from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.corruption.act import Keep
from maskwright.corruption.masking import Masking
from maskwright.corruption.select import Select, Tokens
from maskwright.errors import ConfigError, ModelError
from maskwright.hf.head import narrowed_module, predicted_only
from maskwright.hf.replaced.keyed_sampling import position_keys, sample_tokens
from maskwright.schedule import Schedule
from maskwright.vocabulary import Vocabulary

# What a batch calls the positions whose tokens are to be predictions.
SAMPLED = "sampled"
# Absorbed by the seed, so that the draws are apart from those of masks.
_PURPOSE = 2


@dataclass(frozen=True)
class ScheduledSampling:
    """Some of the tokens that a decoder reads are replaced by what the model itself predicts.

    Scheduled sampling (Bengio et al., 1506.03099), in the two passes that a Transformer allows
    (Mihaylova and Martins, 1906.07651, section 3): a first pass of the decoder, without a gradient,
    reads the target, masked where it is masked, and predicts; then selected tokens are replaced by
    their predictions, and the second pass is trained on. Labels stay the target. The encoder runs
    once where that is known to be the same. A model whose ``forward`` takes ``sampled`` ``(B, T)``,
    such as the LSTM of `maskwright.models`, feeds its predictions back step by step instead, as
    Bengio et al. did, and those are always the likeliest.

    Which tokens are replaced is drawn as a policy's select draws, by (seed, sample id, epoch,
    position) and apart from the masks; special tokens never are. A run that resumes draws the same.

    Args:
        probability: of each token, 0 to 1; a schedule such as ``Linear(0.0, 0.5)`` lets the model
            begin with the target, as the papers do.
        select: which tokens; single ones by chance unless given. `Spans` replaces whole spans.
        temperature: None: the likeliest token. A number: one drawn from the softmax of the logits
            divided by it, keyed by (seed, epoch, step, sample, position); not for a model that
            feeds its predictions back.

    Raises:
        PolicyError: the probability is no share from 0 to 1.
        ConfigError: the temperature is not above 0.
    """

    probability: float | Schedule = 0.25
    select: Select = field(default_factory=Tokens)
    temperature: float | None = None

    def __post_init__(self) -> None:
        if self.temperature is not None and not self.temperature > 0:
            raise ConfigError(
                f"ScheduledSampling.temperature must be above 0, got {self.temperature!r}; None "
                "takes the likeliest token."
            )
        self.masking()

    def masking(self) -> Masking:
        """The policy whose selected tokens are replaced."""
        return Masking(select=self.select, rate=self.probability, act=Keep())

    def positions(
        self, batch: TokenBatch, vocabulary: Vocabulary, clock: Clock, width: int
    ) -> Tensor:
        """Which of the tokens that a decoder reads are to be predictions, ``(B, width)`` bool.

        A token is read one place behind where it is predicted, and the last one is never read.

        Args:
            batch: the targets.
            vocabulary: of the targets.
            clock: with the seed of the masks.
            width: ``T`` of the batch.
        """
        seed = randomness.absorb(clock.seed & randomness.WORD, _PURPOSE)
        moment = Clock(seed, clock.epoch, clock.step, clock.total_steps)
        plan = self.masking().bind(vocabulary).plan(batch, moment)
        sampled = np.zeros((len(batch), width + 1), np.bool_)
        tokens = batch.tokens
        rows = np.searchsorted(tokens.offsets, plan.positions, side="right") - 1
        places = plan.positions - tokens.offsets[rows] + 1
        read = places < tokens.lengths[rows]
        sampled[rows[read], places[read]] = True
        return torch.from_numpy(sampled[:, :width].copy())

    def resampled(
        self,
        model: Any,
        unwrapped: Any,
        inputs: dict[str, Any],
        batch: dict[str, Any],
        seed: int = 0,
    ) -> dict[str, Any]:
        """The inputs of the pass that is trained on.

        Args:
            model: in whatever it is wrapped.
            unwrapped: the model itself.
            inputs: of the model, with ``decoder_input_ids`` and without labels.
            batch: what the collator gave, with ``sampled``, ``sample_ids`` and ``clock``.
            seed: of the draws from the softmax.

        Raises:
            ModelError: what the decoder reads is not in the batch.
            ConfigError: there is a temperature, and the model feeds back the likeliest token.
        """
        sampled: Tensor = batch[SAMPLED]
        if "sampled" in inspect.signature(unwrapped.forward).parameters:
            if self.temperature is not None:
                raise ConfigError(
                    f"ScheduledSampling(temperature={self.temperature!r}): "
                    f"{type(unwrapped).__name__} feeds back the likeliest token, step by step, and "
                    "draws none. Leave temperature=None for it."
                )
            return inputs | {"sampled": sampled}
        read = inputs.get("decoder_input_ids")
        if read is None:
            raise ModelError(
                "Scheduled sampling replaces what the decoder reads, and the batch has no "
                "decoder_input_ids. Use PairCollator."
            )
        rows, columns = sampled.nonzero(as_tuple=True)
        if not len(rows):
            return inputs
        if model is unwrapped and _reuses_encoder(unwrapped):
            inputs = _encoded(unwrapped, inputs)
        # what is read at one place was predicted at the one before
        logits = _logits_at(model, unwrapped, inputs, rows * read.shape[1] + columns - 1)
        if self.temperature is None:
            tokens = logits.argmax(1)
        else:
            own = randomness.absorb(seed & randomness.WORD, _PURPOSE)
            keys = position_keys(own, batch["clock"][rows], batch["sample_ids"][rows], columns)
            tokens = sample_tokens(logits, keys, self.temperature)
        replaced = read.index_put((rows, columns), tokens.to(read.dtype))
        return inputs | {"decoder_input_ids": replaced}


def _reuses_encoder(model: Any) -> bool:
    """Whether the encoder's outputs are those of a call of its own with the model's inputs: not of
    encoders of sounds, whose models mask spectrograms before."""
    takes = inspect.signature(model.forward).parameters
    return "encoder_outputs" in takes and getattr(model, "main_input_name", "") == "input_ids"


def _encoded(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs with the encoder's outputs, in the graph, in place of what it reads."""
    encoder = model.get_encoder()
    takes = inspect.signature(encoder.forward).parameters
    given = {name: value for name, value in inputs.items() if name in takes}
    given = {name: value for name, value in given.items() if not name.startswith("decoder_")}
    outputs = encoder(**given, return_dict=True)
    # the decoder asks for the mask of the source as well
    left = {k: v for k, v in inputs.items() if k not in given or k == "attention_mask"}
    return left | {"encoder_outputs": outputs}


def _logits_at(model: Any, unwrapped: Any, inputs: dict[str, Any], positions: Tensor) -> Tensor:
    """The model's logits ``(P, V)`` at positions of the flattened ``(B, T)``, without a graph."""
    shape = inputs["decoder_input_ids"].shape
    with torch.no_grad():
        if narrowed_module(unwrapped) is None:
            logits = model(**inputs)["logits"].flatten(0, 1).index_select(0, positions)
        else:
            with predicted_only(unwrapped, positions, (shape[0], shape[1])):
                logits = model(**inputs)["logits"].squeeze(0)
    # casts that were kept without a graph would give the next pass no gradient
    torch.clear_autocast_cache()
    return logits
