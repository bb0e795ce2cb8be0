"""Masks of a translation model by name: on what its decoder reads, and on its cross-attention."""

from __future__ import annotations

import re
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
    "alignment",
    "scheduled-sampling",
]


class DecoderMask(Section):
    """What happens to the tokens that the decoder reads; labels stay the whole target.

    ``cmlm`` is another objective: only masked tokens are labels, and the decoder sees both sides.
    ``alignment`` masks what ``data.alignments`` links with masked source tokens.
    """

    mask: OnDecoder = "none"
    rate: float | None = Field(default=None, ge=0, le=1, description="the recipe's own, if none")
    source_rate: float = Field(default=0.0, ge=0, lt=1, description="of source tokens, masked")
    description: str = ""

    @model_validator(mode="after")
    def _follows(self) -> DecoderMask:
        if self.aligned and not self.source_rate:
            raise ConfigError(
                "mask alignment follows masked source tokens, and source_rate is 0, so that there "
                "are none. Give a source_rate, such as 0.15."
            )
        return self

    @property
    def aligned(self) -> bool:
        """Whether it follows the links of a word alignment."""
        return self.mask == "alignment"

    @property
    def iterative(self) -> bool:
        """Whether the model fills masks instead of writing from left to right."""
        return self.mask == "cmlm"


_PATTERNS = ("pattern", "encoder")
_BY_SCORE = ("top", "threshold")  # what they become: `maskwright.lab.translate.attached.BY_SCORE`


class CrossMask(Section):
    """Which source tokens the decoder may attend to, in training and in generation.

    Either ``heads``: gates of the heads are learned with the model, and in the end at most this
    share of them is open. Or ``pattern``, in the language of `maskwright.attention.parse`; of what
    it leaves, or of all, ``top`` or ``threshold`` keep a part by the attention itself.
    """

    pattern: str | None = None
    encoder: str | None = Field(default=None, description="a pattern for the encoder, too")
    top: int | None = Field(default=None, ge=1, description="source tokens of the highest scores")
    threshold: float | None = Field(default=None, gt=0, le=1, description="the least weight")
    heads: float | None = Field(default=None, gt=0, lt=1, description="share that stays open")
    description: str = ""

    @model_validator(mode="after")
    def _builds(self) -> CrossMask:
        for source in (self.pattern, self.encoder):
            if source is None:
                continue
            parse(source)
            if re.search(r"\baligned\b", source):
                raise ConfigError(
                    f"pattern {source!r}: links of aligned are those of one pair of sentences, "
                    "and while a text is written there is no target yet that has any. Attach it "
                    "in Python (docs/interaction.md), or use the decoder mask alignment."
                )
        others = [name for name in (*_PATTERNS, *_BY_SCORE) if getattr(self, name) is not None]
        if self.heads is not None and others:
            raise ConfigError(
                f"heads and {' and '.join(others)} are given; gates of heads are learned without "
                "another mask. Leave one of them out."
            )
        if self.top is not None and self.threshold is not None:
            raise ConfigError(
                f"top={self.top} and threshold={self.threshold} are given; scores are cut in one "
                "way. Leave one of them out."
            )
        return self

    @property
    def free(self) -> bool:
        """Whether every source token is seen."""
        return not (self.learned or self.patterns or self.by_score)

    @property
    def learned(self) -> bool:
        return self.heads is not None

    @property
    def patterns(self) -> dict[str, Any]:
        """Arguments of `maskwright.hf.attach`; none where nothing is attached."""
        given = {"cross": self.pattern, "encoder": self.encoder}
        return {role: parse(source) for role, source in given.items() if source is not None}

    @property
    def by_score(self) -> dict[str, float]:
        """How scores narrow what the pattern leaves, as `Masked.kept` keeps it; mostly nothing."""
        given = {name: getattr(self, name) for name in _BY_SCORE}
        return {name: value for name, value in given.items() if value is not None}


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
        "alignment": DecoderMask(
            mask="alignment",
            source_rate=0.1,
            description="10% of the source is masked, and what is aligned with it",
        ),
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
        "top-k": CrossMask(top=4, description="the four source tokens of the highest scores"),
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
