"""The batches that are compared: as people pad them, and as they pack them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DataCollatorForLanguageModeling

from maskwright.corruption import Masking, recipe
from maskwright.corruption.emit import IGNORE
from maskwright.lab.bench import shapes
from maskwright.lab.bench.collating import collating
from maskwright.lab.bench.texts import Language, blocks, padded, pieces

Batch = dict[str, torch.Tensor]
RATE = 0.15


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        make: a new model without dropout.
        ragged: the padded batch.
        packed: the same kind of text in full blocks, or None.
        collate: makes a batch of the texts of ``ragged``, with a policy of ours for this kind of
            model; None: it has none, as its tokenizer has no mask token.
    """

    name: str
    make: Callable[[], Any]
    ragged: Batch
    packed: Batch | None
    collate: Callable[[], Any] | None = None


def table_of_cases(slots: int, *, rate: float = RATE) -> Mapping[str, Callable[[], Case]]:
    """What `maskwright bench` and the recorded benchmark measure; each is made when it is called.

    Args:
        slots: places of a batch, padding and all.
        rate: share of the tokens that masked models predict.
    """

    def language() -> Language:
        return Language.hashed(shapes.VOCABULARY)

    return {
        "bert-512": lambda: masked(
            "BERT 4 × 256, S=512", shapes.bert, language(), 512, slots, rate
        ),
        "bert-128": lambda: masked(
            "BERT 4 × 256, S=128", shapes.bert, language(), 128, slots, rate
        ),
        "modernbert": lambda: masked(
            "ModernBERT 6 × 256, S=2048", shapes.modernbert, language(), 2048, slots, rate
        ),
        "gpt2": lambda: prompted(
            "GPT-2 4 × 256, prompts masked, S=512", shapes.gpt2, language(), 512, slots
        ),
        "bart": lambda: pairs(
            "BART 3 + 3 × 256, 256 to 128", shapes.bart, language(), 256, 128, slots
        ),
    }


def masked(
    name: str, make: Any, language: Language, length: int, slots: int, rate: float = RATE
) -> Case:
    """Masked by transformers' collator; full blocks of as many real tokens beside it."""
    texts = pieces(length, language, max(2, slots // length))
    collator = DataCollatorForLanguageModeling(language.tokenizer, mlm_probability=rate, seed=0)
    made = []
    for ids, real in (
        (padded(texts, language.pad, length), _real(texts, length)),
        (packed := blocks(texts, length), torch.ones_like(packed)),
    ):
        found = collator([{"input_ids": row} for row in ids])
        # where the id of padding is that of a token as well, the mask alone tells them apart
        labels = torch.where(real == 1, found["labels"], IGNORE)
        made.append({"input_ids": found["input_ids"], "labels": labels, "attention_mask": real})
    collate = collating(language.tokenizer, Masking(rate=rate), texts)
    return Case(name, make, made[0], made[1], collate)


def prompted(name: str, make: Any, language: Language, length: int, slots: int) -> Case:
    """Causal fine-tuning: the first two thirds of each text are its prompt."""
    texts = pieces(length, language, max(2, slots // length))
    labels = []
    for row in texts:
        answer = row.clone()
        answer[: 2 * len(row) // 3] = IGNORE
        labels.append(answer)
    batch = {
        "input_ids": padded(texts, language.pad, length),
        "labels": padded(labels, IGNORE, length),
        "attention_mask": _real(texts, length),
    }
    full = {"input_ids": blocks(texts, length), "labels": blocks(labels, length)}
    packed = full | {"attention_mask": torch.ones_like(full["labels"])}
    collate = collating(language.tokenizer, recipe("prefix-lm"), texts)
    return Case(name, make, batch, packed, collate)


def pairs(name: str, make: Any, language: Language, source: int, target: int, slots: int) -> Case:
    """A text, and one of half the length as what is to be written."""
    count = max(2, slots // source)
    texts = pieces(source, language, count)
    batch = {
        "input_ids": padded(texts, language.pad, source),
        "attention_mask": _real(texts, source),
        "labels": padded(pieces(target, language, count), IGNORE, target),
    }
    collate = None
    if language.tokenizer.mask_token is not None:
        collate = collating(language.tokenizer, recipe("mass"), texts)
    return Case(name, make, batch, None, collate)


def _real(texts: list[torch.Tensor], length: int) -> torch.Tensor:
    return padded([torch.ones_like(row) for row in texts], 0, length)
