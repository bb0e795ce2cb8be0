"""Masks of a translation model by name: on what its decoder reads, and on its cross-attention."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field, model_validator

from maskwright.attention.parse import parse
from maskwright.errors import ConfigError, unknown
from maskwright.lab.section import Section

NONE = "none"

OnDecoder = Literal[
    "none",
    "random",
    "sparse",
    "span",
    "word-dropout",
    "position",
    "length",
    "cmlm",
    "scheduled-sampling",
]


class DecoderMask(Section):
    """What happens to the tokens that the decoder reads; labels stay the whole target.

    ``cmlm`` is another objective: only masked tokens are labels, and the decoder sees both sides.
    """

    mask: OnDecoder = "none"
    rate: float | None = Field(default=None, ge=0, le=1, description="the recipe's own, if none")
    source_rate: float = Field(default=0.0, ge=0, lt=1, description="of source tokens, masked")
    description: str = ""

    @property
    def iterative(self) -> bool:
        """Whether the model fills masks instead of writing from left to right."""
        return self.mask == "cmlm"


class CrossMask(Section):
    """Which source tokens the decoder may attend to, in training and in generation.

    Either ``pattern``, in the language of `maskwright.attention.parse`; or ``heads``: gates of the
    heads are learned with the model, and in the end at most this share of them is open.
    """

    pattern: str | None = None
    encoder: str | None = Field(default=None, description="a pattern for the encoder, too")
    heads: float | None = Field(default=None, gt=0, lt=1, description="share that stays open")
    description: str = ""

    @model_validator(mode="after")
    def _builds(self) -> CrossMask:
        for source in (self.pattern, self.encoder):
            if source is not None:
                parse(source)
        if self.heads is not None and (self.pattern or self.encoder):
            raise ConfigError(
                "heads and pattern are given; gates of heads are learned without a pattern. Leave "
                "one of them out."
            )
        return self

    @property
    def learned(self) -> bool:
        return self.heads is not None

    @property
    def patterns(self) -> dict[str, Any]:
        """Arguments of `maskwright.hf.attach`; none where nothing is attached."""
        given = {"cross": self.pattern, "encoder": self.encoder}
        return {role: parse(source) for role, source in given.items() if source is not None}


KNOWN_DECODER_MASKS: Mapping[str, DecoderMask] = MappingProxyType(
    {
        NONE: DecoderMask(description="the decoder reads its target as it is"),
        "random": DecoderMask(
            mask="random", rate=0.15, description="15% of the tokens it reads are masked"
        ),
        "sparse": DecoderMask(mask="sparse", description="a few of the tokens it reads"),
        "span": DecoderMask(mask="span", rate=0.15, description="15%, in spans"),
        "word-dropout": DecoderMask(
            mask="word-dropout", rate=0.15, description="15% of the tokens become <unk>"
        ),
        "position": DecoderMask(mask="position", description="late tokens more often"),
        "length": DecoderMask(mask="length", description="long targets more"),
        "cmlm": DecoderMask(mask="cmlm", description="masked tokens are filled, both sides seen"),
        "scheduled-sampling": DecoderMask(
            mask="scheduled-sampling",
            rate=0.15,
            description="15% are what the model itself predicts",
        ),
        "source": DecoderMask(source_rate=0.1, description="10% of the source is masked"),
    }
)

KNOWN_CROSS_MASKS: Mapping[str, CrossMask] = MappingProxyType(
    {
        NONE: CrossMask(description="every source token is seen"),
        "padding": CrossMask(
            pattern="padding", description="every source token but padding: the same by another way"
        ),
        "wait-k": CrossMask(
            pattern="wait_k(3)",
            encoder="causal",
            description="three source tokens ahead; the encoder looks back only",
        ),
        "window": CrossMask(
            pattern="monotonic_window(4, rate=1.0)",
            description="four source tokens to each side of the diagonal",
        ),
        "learned": CrossMask(heads=0.5, description="gates of heads are learned, half stay open"),
    }
)


def decoder_masks(names: Iterable[str], own: Mapping[str, DecoderMask]) -> dict[str, DecoderMask]:
    """Masks on decoder inputs by name: those of the settings, or known ones.

    Raises:
        ConfigError: there is none of a name.
    """
    return _chosen("decoder mask", names, {**KNOWN_DECODER_MASKS, **own})


def cross_masks(names: Iterable[str], own: Mapping[str, CrossMask]) -> dict[str, CrossMask]:
    """As `decoder_masks`, on cross-attention."""
    return _chosen("cross mask", names, {**KNOWN_CROSS_MASKS, **own})


def _chosen(kind: str, names: Iterable[str], known: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name in names:
        if name not in known:
            raise ConfigError(unknown(kind, name, known))
        found[name] = known[name]
    return found
