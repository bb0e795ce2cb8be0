"""Slow, obvious mask-predict: one source, one length, one word at a time.

No fast code imports it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def write_one(
    model: Any,
    source: list[int],
    length: int,
    *,
    passes: int,
    block: int | None = None,
    easy_first: bool = False,
) -> tuple[list[int], float]:
    """One target of a given length, and the mean logarithmic probability of its words.

    Args:
        model: a `ConditionalMaskedLM`, evaluating.
        source: its tokens, without padding.
        length: words of the target.
        passes: of each block.
        block: words of a block; None: all.
        easy_first: whether words that were left standing stay.
    """
    form = model.form
    words = [form.mask_id] * length
    scores = [0.0] * length
    size = length if block is None else block
    for start in range(0, length, size):
        inside = list(range(start, min(start + size, length)))
        standing: set[int] = set()
        for done in range(passes):
            count = len(inside) * (passes - done) // passes
            choice = [i for i in inside if i not in standing]
            masked = sorted(sorted(choice, key=lambda i: (scores[i], i))[:count])
            if done == 0:
                masked = inside
            for i in masked:
                words[i] = form.mask_id
            logits = _logits(model, source, words)
            for i in masked:
                allowed = logits[len(form.prefix) + i].clone()
                allowed[[one for one in range(len(allowed)) if _banned(form, one)]] = float("-inf")
                found = allowed.log_softmax(-1)
                words[i] = int(found.argmax())
                scores[i] = float(found.max())
            if easy_first:
                standing |= {i for i in inside if i not in masked}
    return [*form.prefix, *words, *form.suffix], sum(scores) / length


def _banned(form: Any, one: int) -> bool:
    return one in form.never or one >= form.size


def _logits(model: Any, source: list[int], words: list[int]) -> Tensor:
    """``(L, V)`` of the whole model, from the start."""
    target = [*model.form.prefix, *words, *model.form.suffix]
    return model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([target])).logits[
        0
    ]
