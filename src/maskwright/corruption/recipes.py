"""Published policies by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maskwright.corruption.act import BERT_ACTS
from maskwright.corruption.masking import Masking
from maskwright.corruption.refresh import Dynamic, Rotating
from maskwright.errors import ConfigError, PolicyError, unknown
from maskwright.vocabulary import Vocabulary


def bert() -> Masking:
    """15% of the tokens, 80/10/10, ten fixed masks in turn.

    BERT, 1810.04805, section 3.1 and appendix A.1; its data were written ten times
    (1907.11692, section 4.1).
    """
    return Masking(rate=0.15, act=BERT_ACTS, refresh=Rotating(10))


def roberta() -> Masking:
    """15% of the tokens, 80/10/10, drawn anew every epoch. RoBERTa, 1907.11692, section 4.1."""
    return Masking(rate=0.15, act=BERT_ACTS, refresh=Dynamic())


RECIPES: dict[str, Callable[[], Masking]] = {"bert": bert, "roberta": roberta}


def recipe(name: str, tokenizer: Any = None, **changes: Any) -> Masking:
    """A published policy.

    Args:
        name: one of `RECIPES`.
        tokenizer: a Hugging Face tokenizer or a `Vocabulary`; binds the policy to it.
        changes: fields of `Masking` to set otherwise.

    >>> recipe("bert", rate=0.4)
    Masking(tokens, rate 0.4, 0.8 mask + 0.1 random + 0.1 keep, rotating-10)
    """
    from dataclasses import fields, replace

    if name not in RECIPES:
        raise PolicyError(unknown("recipe", name, RECIPES))
    names = {field.name for field in fields(Masking)}
    for change in changes:
        if change not in names:
            raise ConfigError(unknown("setting of a masking policy", change, names))
    masking = replace(RECIPES[name](), **changes)
    if tokenizer is None:
        return masking
    if not isinstance(tokenizer, Vocabulary):
        tokenizer = Vocabulary.from_tokenizer(tokenizer)
    return masking.bind(tokenizer)
