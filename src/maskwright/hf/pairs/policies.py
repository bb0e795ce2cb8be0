"""What a `PairCollator` takes for policies of its two sides, and where its decoder starts."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from maskwright.corruption.emit import Decoder, Mlm, Seq2Seq
from maskwright.corruption.marked import Marked
from maskwright.corruption.masking import Masking
from maskwright.corruption.mixture import MixedMasking
from maskwright.corruption.select import Select
from maskwright.errors import ConfigError, PolicyError
from maskwright.hf.pairs.limits import decoder_start_of
from maskwright.vocabulary import Vocabulary

Policy = Masking | MixedMasking


def start_id_of(given: int | None, model: Any, vocabulary: Vocabulary) -> int:
    """What the decoder reads first: given, or the model's own."""
    if given is None and model is None:
        raise ConfigError(
            "PairCollator needs to know what the decoder reads first. Give model=model, or "
            "decoder_start_id=model.config.decoder_start_token_id."
        )
    own = None
    if model is not None and (
        given is None or getattr(model.config, "decoder_start_token_id", None) is not None
    ):
        own = decoder_start_of(model)
    start = own if given is None else given
    assert start is not None
    if own is not None and start != own:
        raise ConfigError(
            f"PairCollator(decoder_start_id={given}) is not the {own} that the model starts with "
            "when it generates. Leave one of the two out."
        )
    if not 0 <= start < vocabulary.size:
        raise ConfigError(
            f"The decoder's start id {start} is outside the vocabulary of "
            f"{vocabulary.name or 'the target'} (0 … {vocabulary.size - 1})."
        )
    return start


def _parts(policy: Policy) -> tuple[Masking, ...]:
    return (
        tuple(part for _, part in policy.parts) if isinstance(policy, MixedMasking) else (policy,)
    )


def source_policy(policy: Policy) -> Policy:
    """The policy, seen to be one of what an encoder reads."""
    if not isinstance(policy, Masking | MixedMasking):
        raise PolicyError(f"PairCollator.source got {policy!r}, which is no Masking.")
    if not isinstance(policy.emit, Mlm | Seq2Seq):
        raise PolicyError(
            f"A source policy makes what an encoder reads, but it emits {policy.emit}. Use "
            "emit=Mlm(), or Seq2Seq() where tokens are deleted, infilled or moved."
        )
    return policy


def target_policy(policy: Policy, start: int) -> Policy:
    """The policy with the emit of a decoder that begins with ``start``."""
    if not isinstance(policy, Masking | MixedMasking):
        raise PolicyError(f"PairCollator.target got {policy!r}, which is no Masking.")
    emit = policy.emit
    if isinstance(emit, Mlm):
        own = Decoder("all", start_id=start)
        if isinstance(policy, Masking):
            return replace(policy, emit=own)
        parts = tuple((weight, replace(part, emit=own)) for weight, part in policy.parts)
        return replace(policy, parts=parts)
    if not isinstance(emit, Decoder):
        raise PolicyError(
            f"A target policy makes what a decoder reads, but it emits {emit}. Use "
            f'emit=Decoder("all", start_id={start}), or decoder_masking(name, start_id={start}).'
        )
    if emit.labels == "all" and emit.start_id != start:
        raise PolicyError(
            f"The target policy starts with {emit.start_id}, but the decoder with {start}. Use "
            f'emit=Decoder("all", start_id={start}).'
        )
    return policy


def follows_marks(policy: Policy) -> bool:
    """Whether it selects among marked tokens."""
    return any(_uses(Marked, part.select) for part in _parts(policy))


def _uses(kind: type[Select], part: object) -> bool:
    """Whether a select is of a kind, or made of one."""
    if isinstance(part, kind):
        return True
    if not isinstance(part, Select) or not is_dataclass(part):
        return False
    return any(_uses(kind, getattr(part, field.name)) for field in fields(part))
