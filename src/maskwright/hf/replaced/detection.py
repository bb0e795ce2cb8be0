"""Replaced token detection with a learned generator: ELECTRA (Clark et al. 2020, 2003.10555).

A small masked language model, the generator, fills each mask with a token drawn from its softmax.
The discriminator, the model one wants, says of every token whether it was replaced. Both learn at
once, and share their token and position embeddings; no gradient passes through the draw.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForTokenClassification,
    ElectraForPreTraining,
)
from transformers.utils.generic import ModelOutput

from maskwright.corruption.emit import IGNORE
from maskwright.errors import BatchError, ConfigError, ModelError, SampleIdError
from maskwright.hf.head import predicted_only
from maskwright.hf.replaced.filling import at_least_float32, fill_masks, judgement_loss
from maskwright.hf.replaced.shared_embeddings import save_shared_once, share_embeddings


@dataclass
class ReplacedTokens(ModelOutput):
    """What a step gave.

    Args:
        loss: ``()``, generator's + weight × discriminator's.
        logits: ``(B, S)``, above 0 where the discriminator holds a token for replaced.
        replaced: ``(B, S)`` int64: 1 where the token is not the original, else 0.
        corrupted: ``(B, S)`` int64: what the discriminator read.
        generator_loss: ``()``, cross-entropy per predicted token of this batch.
        discriminator_loss: ``()``, binary cross-entropy per token of this batch, unweighed.
        replaced_share: ``()``, replaced tokens by tokens.
        generator_accuracy: ``()``, share of predicted tokens whose likeliest one is the original.
        discriminator_accuracy: ``()``, share of tokens judged right. As most tokens are original,
            compare it with ``1 - replaced_share``.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    replaced: Tensor | None = None
    corrupted: Tensor | None = None
    generator_loss: Tensor | None = None
    discriminator_loss: Tensor | None = None
    replaced_share: Tensor | None = None
    generator_accuracy: Tensor | None = None
    discriminator_accuracy: Tensor | None = None


_MEASURES = (
    "generator_loss",
    "discriminator_loss",
    "replaced_share",
    "generator_accuracy",
    "discriminator_accuracy",
)


class ReplacedTokenDetection(nn.Module):
    """A generator and a discriminator, trained together by a plain `transformers.Trainer`.

    The collator is ``MaskingCollator(tokenizer, recipe("electra"), carry=True)``: the draw is keyed
    by (seed, epoch, step, sample, position), so the batch has to say them. All predicted positions
    are filled by the generator, whatever else the policy put there. Every token that is not padding
    is judged, special ones too, as in the paper's own code.

    **Normalisation.** The generator's loss is a mean over predicted tokens, of all micro-batches
    and ranks where the Trainer says how many (``num_items_in_batch``). The discriminator's is a
    mean over the real tokens of the micro-batch, and micro-batches weigh by their predicted tokens,
    for the Trainer does not count real ones. With the same share predicted everywhere, that is the
    mean over all real tokens; with ``electra``, up to the rounding of 15% in each sample.

    Args:
        generator: a masked language model.
        discriminator: `ElectraForPreTraining`, or a token classifier with one label.
        weight: λ, of the discriminator's loss; the paper's 50.
        temperature: of the draw; the paper's 1.
        seed: of the draw.

    Raises:
        ConfigError: a number outside its rule.
        ModelError: the two have other vocabularies, or embeddings of other shapes.
    """

    # What the Trainer asks a model for: the loss takes num_items_in_batch.
    accepts_loss_kwargs = True
    _keys_to_ignore_on_save = None

    def __init__(
        self,
        generator: Any,
        discriminator: Any,
        weight: float = 50.0,
        temperature: float = 1.0,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not weight >= 0:
            raise ConfigError(f"weight={weight!r} of the discriminator's loss: it is 0 or more.")
        if not temperature > 0:
            raise ConfigError(f"temperature={temperature!r} of the draw: it is above 0.")
        # first, so that what is shared goes by the discriminator's names
        self.discriminator = discriminator
        self.generator = generator
        self.weight, self.temperature, self.seed = weight, temperature, seed
        self._last: ReplacedTokens | None = None
        share_embeddings(generator, discriminator)
        save_shared_once(self)

    @classmethod
    def from_configs(
        cls, discriminator: Any, generator: Any = None, *, divisor: int = 4, **others: Any
    ) -> ReplacedTokenDetection:
        """New models of configurations.

        Args:
            discriminator: of the discriminator, such as an `ElectraConfig`.
            generator: of the generator; unless given, the discriminator's with its width, heads and
                feed-forward width divided by ``divisor``, and its embeddings as wide as before.
            divisor: 4 or near it in the paper.
            others: as for the class.

        Raises:
            ConfigError: the configuration has no ``embedding_size`` apart from its width, or cannot
                be divided.
        """
        if generator is None:
            generator = _divided(discriminator, divisor)
        if discriminator.model_type == "electra":
            judge = ElectraForPreTraining(copy.deepcopy(discriminator))
        else:
            settings = copy.deepcopy(discriminator)
            settings.num_labels = 1
            judge = AutoModelForTokenClassification.from_config(settings)
        return cls(AutoModelForMaskedLM.from_config(generator), judge, **others)

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        sample_ids: Tensor | None = None,
        clock: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> ReplacedTokens:
        """The loss of a masked batch, as `MaskingCollator` makes it.

        Args:
            input_ids, labels: ``(B, S)`` int64; labels are -100 where nothing is predicted.
            attention_mask: ``(B, S)``, 0 at padding.
            token_type_ids: ``(B, S)``, for models that know them.
            sample_ids: ``(B,)`` int64.
            clock: ``(B, 2)`` int64: epoch and step, -1 where not known.
            num_items_in_batch: predicted tokens of all micro-batches and ranks.

        Raises:
            BatchError: there are no labels, or the attention mask is not ``(B, S)``.
            SampleIdError: the samples have no ids.
        """
        if labels is None:
            raise BatchError(
                "The batch has no labels, which say what was masked. Use MaskingCollator(tokenizer,"
                ' recipe("electra"), carry=True); to judge a text, call .discriminator.'
            )
        if sample_ids is None:
            raise SampleIdError(
                "The batch has no sample_ids, so the generator's draws could not be the same "
                "again. Use MaskingCollator(…, carry=True)."
            )
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if attention_mask.shape != input_ids.shape:
            raise BatchError(
                f"attention_mask has shape {tuple(attention_mask.shape)}, input_ids "
                f"{tuple(input_ids.shape)}; they must be the same, 0 at padding."
            )
        real = attention_mask != 0
        others: dict[str, Any] = {"attention_mask": attention_mask}
        if token_type_ids is not None:
            others["token_type_ids"] = token_type_ids

        places = (labels.flatten() != IGNORE).nonzero().squeeze(1)
        originals = labels.flatten().index_select(0, places)
        with predicted_only(self.generator, places, (len(input_ids), input_ids.shape[1])):
            guesses = self.generator(input_ids=input_ids, **others)["logits"].squeeze(0)
        guesses = at_least_float32(guesses)
        of_generator = functional.cross_entropy(guesses, originals, reduction="sum")

        filled = fill_masks(
            input_ids,
            labels,
            places,
            guesses,
            real=real,
            sample_ids=sample_ids,
            clock=clock,
            seed=self.seed,
            temperature=self.temperature,
        )
        corrupted, replaced = filled.tokens, filled.replaced

        logits = self.discriminator(input_ids=corrupted, **others)["logits"]
        logits = at_least_float32(_one_label(logits, input_ids.shape, self.discriminator))
        predicted, tokens = originals.new_tensor(len(places)).clamp(min=1), real.sum().clamp(min=1)
        of_discriminator = judgement_loss(logits, replaced, real) / tokens
        if num_items_in_batch is None:
            loss = of_generator / predicted + self.weight * of_discriminator
        else:
            total = torch.as_tensor(num_items_in_batch, device=input_ids.device).clamp(min=1)
            share = len(places) / total
            loss = of_generator / total + self.weight * share * of_discriminator

        judged = ((logits > 0) == (replaced == 1)) & real
        found = ReplacedTokens(
            loss=loss,
            logits=logits,
            replaced=replaced,
            corrupted=corrupted,
            generator_loss=(of_generator / predicted).detach(),
            discriminator_loss=of_discriminator.detach(),
            replaced_share=replaced.sum() / tokens,
            generator_accuracy=(guesses.argmax(1) == originals).sum() / predicted,
            discriminator_accuracy=judged.sum() / tokens,
        )
        self._last = ReplacedTokens(**{name: found[name] for name in _MEASURES})
        return found

    @property
    def measures(self) -> dict[str, float]:
        """Losses, replaced share and accuracies of the last batch; empty before the first.

        Reading waits for the device, so read it when you log, not at every step.
        """
        return {} if self._last is None else {k: float(v) for k, v in self._last.items()}

    def activation_checkpointing_enable(self, **settings: Any) -> None:
        """As the Trainer asks for it: in both models."""
        self.generator.activation_checkpointing_enable(**settings)
        self.discriminator.activation_checkpointing_enable(**settings)

    def gradient_checkpointing_enable(self, **settings: Any) -> None:
        """The same, by the name that older releases of transformers know."""
        self.generator.gradient_checkpointing_enable(**settings)
        self.discriminator.gradient_checkpointing_enable(**settings)


def _one_label(logits: Tensor, shape: torch.Size, model: Any) -> Tensor:
    if logits.shape == (*shape, 1):
        return logits.squeeze(-1)
    if logits.shape != shape:
        raise ModelError(
            f"{type(model).__name__} gives logits of shape {tuple(logits.shape)} for inputs of "
            f"shape {tuple(shape)}; a discriminator gives one a token. Use ElectraForPreTraining, "
            "or AutoModelForTokenClassification with num_labels=1."
        )
    return logits


def _divided(config: Any, divisor: int) -> Any:
    """The configuration of a generator."""
    if getattr(config, "embedding_size", None) is None:
        raise ConfigError(
            f"{type(config).__name__} has no embedding_size, so a narrower generator could not "
            "share its embeddings. Use an ElectraConfig, or give generator= a configuration of the "
            "same hidden_size with fewer layers."
        )
    made = copy.deepcopy(config)
    for name in ("hidden_size", "intermediate_size", "num_attention_heads"):
        setattr(made, name, max(1, getattr(config, name) // divisor))
    if divisor < 1 or made.hidden_size % made.num_attention_heads:
        raise ConfigError(
            f"divisor={divisor!r}: a generator of width {made.hidden_size} with "
            f"{made.num_attention_heads} heads cannot be made. Take a divisor of hidden_size="
            f"{config.hidden_size} and num_attention_heads={config.num_attention_heads}, or give "
            "generator= a configuration."
        )
    return made
