"""What a training batch asks of a model, without the labels that it would compute its loss from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from maskwright.corruption.emit import IGNORE
from maskwright.errors import ModelError
from maskwright.hf.language_model import Kind


def for_decoder(model: Any, kind: Kind, inputs: dict[str, Any], labels: Tensor) -> dict[str, Any]:
    """The inputs of a model that is given no labels, as it would have made them of its labels.

    An encoder–decoder gets ``decoder_input_ids``, the labels moved by one, and a
    ``decoder_attention_mask`` of the positions up to the last label of each sample: no label is
    predicted from those behind it, as a decoder looks back only.

    Args:
        model: not wrapped.
        kind: of the model.
        inputs: the batch without labels.
        labels: ``(B, T)``.

    Raises:
        ModelError: the model does not say how it makes its decoder's inputs.
    """
    if kind != "seq2seq":
        return inputs
    made = dict(inputs)
    if made.get("decoder_input_ids") is None and made.get("decoder_inputs_embeds") is None:
        make = getattr(model, "prepare_decoder_input_ids_from_labels", None)
        if make is None:
            raise ModelError(
                f"{type(model).__name__} has no prepare_decoder_input_ids_from_labels, so what its "
                "decoder reads cannot be told. Put decoder_input_ids into the batch."
            )
        made["decoder_input_ids"] = make(labels=labels)
    if made.get("decoder_attention_mask") is None:
        made["decoder_attention_mask"] = needed(labels)
    return made


def needed(labels: Tensor) -> Tensor:
    """``(B, T)`` int64: 1 up to the last label of each sample, 0 behind it.

    >>> needed(torch.tensor([[5, -100, 6, -100], [-100, -100, -100, -100]])).tolist()
    [[1, 1, 1, 0], [0, 0, 0, 0]]
    """
    marks = (labels != IGNORE).to(torch.int64)
    return marks.flip(1).cummax(1).values.flip(1)
