"""Text in, text out: greedily, with beams, with masks attached, or by filling masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

# Writes a batch: ids and attention mask in, a row of ids for each out.
Write = Callable[[dict[str, torch.Tensor]], torch.Tensor | list[list[int]]]


def writer(model: Any, *, beams: int, max_new_tokens: int | None = None) -> Write:
    """`model.generate`, with the model's own settings but for the beams.

    Args:
        max_new_tokens: tokens of a text; what the model's settings say unless given.
    """
    longest = {} if max_new_tokens is None else {"max_new_tokens": max_new_tokens}

    def write(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return model.generate(**batch, num_beams=beams, do_sample=False, **longest)

    return write


def translate(
    write: Write,
    tokenizer: Any,
    target_tokenizer: Any,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    max_length: int | None = None,
    device: Any = "cpu",
    tell: Callable[[int], None] | None = None,
) -> list[str]:
    """The translation of each text, in their order; an empty text stays empty.

    Texts of like length go together, the longest first.

    Args:
        write: what writes a batch; of `writer`.
        max_length: source tokens that the model takes; longer texts are cut there.
        tell: called with the number of texts that are done.
    """
    filled = [number for number, text in enumerate(texts) if text.strip()]
    cut = {} if max_length is None else {"truncation": True, "max_length": max_length}
    ids = tokenizer([texts[number] for number in filled], **cut)["input_ids"] if filled else []
    order = sorted(range(len(filled)), key=lambda place: -len(ids[place]))
    found = [""] * len(texts)
    done = len(texts) - len(filled)
    for first in range(0, len(order), batch_size):
        places = order[first : first + batch_size]
        batch = tokenizer.pad({"input_ids": [ids[place] for place in places]}, return_tensors="pt")
        names = ("input_ids", "attention_mask")
        with torch.inference_mode():
            rows = write({name: batch[name].to(device) for name in names})
        written = target_tokenizer.batch_decode(rows, skip_special_tokens=True)
        for place, text in zip(places, written, strict=True):
            found[filled[place]] = text.strip()
        done += len(places)
        if tell is not None:
            tell(done)
    return found


@contextmanager
def evaluating(model: Any) -> Iterator[Any]:
    """Within it, the model is in evaluation mode; behind it, in the mode that it was."""
    was = model.training
    model.eval()
    try:
        yield model
    finally:
        model.train(was)
