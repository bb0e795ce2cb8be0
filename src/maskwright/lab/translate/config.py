"""The configuration of a translation experiment: one schema, that YAML and ``--set`` fill."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from maskwright.errors import ConfigError
from maskwright.lab.config import checked
from maskwright.lab.section import Section
from maskwright.lab.translate.masks import (
    KNOWN_CROSS_MASKS,
    KNOWN_DECODER_MASKS,
    NONE,
    CrossMask,
    DecoderMask,
)


class PairData(Section):
    """Pairs of sentences, and how they become tokens."""

    source: str = "tatoeba"
    source_column: int | str | None = Field(default=None, description="its name, or from 0")
    target_column: int | str | None = None
    alignments: str | None = Field(
        default=None, description="links of words, 0-0 1-2: line n is of line n of the pairs"
    )
    skip_bad: bool = Field(default=False, description="leave out lines that cannot be read")
    vocabulary_size: int = Field(default=8000, ge=64, description="of the joint BPE")
    max_length: int = Field(default=64, ge=4, description="tokens of a sentence, the end included")
    drop_long: bool = Field(default=False, description="leave out pairs that are longer")
    longest_words: int | None = Field(default=None, ge=1, description="of either sentence")
    train: int | None = Field(default=None, ge=1, description="source sentences; null = all")
    validation: int = Field(default=500, ge=1, description="sentences of the learning curve")
    test: int = Field(default=1000, ge=1, description="sentences that are translated")


class TranslationModel(Section):
    """The encoder–decoder.

    ``marian``: a new `MarianMTModel`; ``lstm``: a new `LstmForConditionalGeneration`; ``minilm``:
    an `EncoderDecoderModel` of the pretrained MiniLM and a new decoder. With ``pretrained`` a
    folder or Hub name is fine-tuned instead, with its own tokenizer.
    """

    kind: Literal["marian", "lstm", "minilm"] = "marian"
    pretrained: str | None = None
    layers: int = Field(default=3, ge=1, description="of encoder and decoder each")
    width: int = Field(default=256, ge=8)
    heads: int = Field(default=4, ge=1)
    feedforward: int = Field(default=1024, ge=8)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    bidirectional: bool = Field(default=True, description="the encoder of an lstm; not for wait-k")

    @property
    def new_decoder(self) -> bool:
        """Whether the encoder is pretrained and the decoder is not."""
        return self.pretrained is None and self.kind == "minilm"

    @property
    def name(self) -> str:
        if self.pretrained is not None:
            return self.pretrained
        size = f"{self.layers}×{self.width}"
        if self.new_decoder:
            return f"MiniLM and a decoder of {size}"
        kinds = {"marian": "Marian", "lstm": "LSTM"}
        return f"{kinds[self.kind]} {self.layers}+{size}"


class TranslationTraining(Section):
    """How it is trained. The budget is ``minutes``, ``epochs`` or ``steps``."""

    tokens_per_batch: int = Field(default=4096, ge=16, description="source and target together")
    learning_rate: float = Field(default=1e-3, gt=0)
    encoder_rate: float = Field(
        default=0.2, gt=0, description="times the learning rate, of the encoder of minilm"
    )
    lr_scheduler: Literal["inverse-sqrt", "cosine", "linear", "constant"] = "inverse-sqrt"
    warmup_steps: int = Field(default=200, ge=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    mask_aware: bool = Field(default=True, description="padding and unread logits cost nothing")
    bf16: bool = Field(default=True, description="where the processor has it; weights stay fp32")
    minutes: float | None = Field(default=None, gt=0, description="of training, evaluations apart")
    clock: Literal["wall", "processor"] = Field(
        default="wall", description="processor: its seconds, divided by the threads"
    )
    epochs: float | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, ge=1)
    checkpoint_every: int | None = Field(default=None, ge=1, description="steps, to resume")

    @model_validator(mode="after")
    def _one_budget(self) -> TranslationTraining:
        given = [name for name in ("minutes", "epochs", "steps") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigError(
                "the budget is one of minutes, epochs and steps, got "
                f"{' and '.join(given) or 'none'}. Set the others to null."
            )
        return self


class TranslationEvaluation(Section):
    """What a model is judged by."""

    every: int = Field(default=250, ge=1, description="steps between two points of the curve")
    batch_size: int = Field(default=64, ge=1, description="sentences")
    beams: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1, 4), min_length=1)
    passes: int = Field(default=4, ge=1, description="of mask-predict, for cmlm")


class Translation(Section):
    """Training, or a comparison, of translation models under masks.

    A comparison has one model for each mask: masks on decoder inputs with free cross-attention,
    masks on cross-attention with free inputs, and ``none``, which the others are compared with.
    """

    task: Literal["translate"] = "translate"
    name: str = "translate"
    data: PairData = PairData()
    model: TranslationModel = TranslationModel()
    training: TranslationTraining = TranslationTraining(steps=1000)
    decoder_masks: dict[str, DecoderMask] = Field(
        default_factory=lambda: {NONE: KNOWN_DECODER_MASKS[NONE]}
    )
    cross_masks: dict[str, CrossMask] = Field(
        default_factory=lambda: {NONE: KNOWN_CROSS_MASKS[NONE]}
    )
    warmup: int | None = Field(default=None, ge=1, description="steps that all masks share")
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = Field(default=(0,), min_length=1)
    evaluation: TranslationEvaluation = TranslationEvaluation()
    workers: int = Field(default=2, ge=1, description="runs at a time")
    threads: int = Field(default=1, ge=1, description="threads of one run")

    @model_validator(mode="after")
    def _consistent(self) -> Translation:
        both = {*self.decoder_masks} & {*self.cross_masks} - {NONE}
        if both:
            raise ConfigError(
                f"{min(both)!r} is the name of a decoder mask and of a cross mask; they name "
                "folders, so give one of them another name."
            )
        for name, mask in self.decoder_masks.items():
            if mask.aligned and self.data.alignments is None:
                raise ConfigError(
                    f"decoder_masks.{name} follows word alignments, and data.alignments names no "
                    "file of them. Give one: --set data.alignments=FILE, with a line as 0-0 1-2 "
                    "for each pair."
                )
        for name in (*self.decoder_masks, *self.cross_masks):
            if not re.fullmatch(r"\w[\w.+-]*", name):
                raise ConfigError(
                    f"{name!r}: a mask is named with letters, digits, '-', '_', '.' and '+'."
                )
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds {list(self.seeds)} must differ.")
        if self.model.kind == "lstm" or self.model.pretrained is not None:
            return self
        if self.model.width % self.model.heads:
            raise ConfigError(
                f"model.width: {self.model.width} cannot be shared by {self.model.heads} heads. "
                "Choose a multiple."
            )
        return self

    @property
    def variants(self) -> dict[str, Variant]:
        """What is compared: ``none`` first, then each mask alone."""
        free_inputs, free_cross = KNOWN_DECODER_MASKS[NONE], KNOWN_CROSS_MASKS[NONE]
        found = {NONE: Variant(decoder=free_inputs, cross=free_cross)}
        for name, mask in self.decoder_masks.items():
            if name != NONE:
                found[name] = Variant(decoder=mask, cross=free_cross)
        for name, mask in self.cross_masks.items():
            if name != NONE:
                found[name] = Variant(decoder=free_inputs, cross=mask)
        return found


class Variant(Section):
    """The masks of one model."""

    decoder: DecoderMask
    cross: CrossMask

    @property
    def description(self) -> str:
        masks = [mask.description for mask in (self.decoder, self.cross)]
        plain = (KNOWN_DECODER_MASKS[NONE].description, KNOWN_CROSS_MASKS[NONE].description)
        told = [text for text in masks if text and text not in plain]
        return "; ".join(told) or "no mask"


def parse_translation(settings: dict[str, Any]) -> Translation:
    """Checks settings and makes a `Translation` of them.

    Raises:
        ConfigError: a key is unknown or a value breaks its rule; the message names the key.
    """
    many = {"decoder_masks": DecoderMask, "cross_masks": CrossMask}
    return checked(Translation, settings, many)
