"""A decoder that attends to both sides, by a mask that it is handed.

The decoders of transformers are causal, and take a mask of four dimensions as it is. So nothing is
attached to the model: patterns on its cross-attention, and training without padding, go on as ever.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from maskwright.errors import ModelError
from maskwright.hf.attachment.seats import is_attention, role_of


def see_both_sides(valid: Tensor, dtype: torch.dtype) -> Tensor:
    """``(B, 1, T, T)`` added to the scores: 0 where a key is a token, and the least number else.

    Args:
        valid: ``(B, T)``, not 0 at tokens.
        dtype: of the model.
    """
    length = valid.shape[1]
    added = torch.zeros(valid.shape, dtype=dtype, device=valid.device)
    added.masked_fill_(valid == 0, torch.finfo(dtype).min)
    return added[:, None, None, :].expand(-1, -1, length, -1)


def refuse_other_sources(model: Any) -> None:
    """A source must be token ids: sounds and pictures have none.

    Raises:
        ModelError: the model reads something else.
    """
    reads = getattr(model, "main_input_name", "input_ids")
    if reads != "input_ids":
        raise ModelError(
            f"{type(model).__name__} reads {reads}, not token ids: a conditional masked language "
            "model tells the length of its target from the tokens of its source. Take an "
            "encoder–decoder of text (Marian, BART, T5, EncoderDecoderModel), or write with "
            "model.generate()."
        )


def open_decoder(model: nn.Module) -> None:
    """Checks that a model's decoder can attend to both sides, and makes T5's count to both.

    The relative positions of T5's decoder know no distance to the right: all of it falls into the
    bucket of distance 0. From here on its buckets are those of T5's encoder, to both sides.

    Raises:
        ModelError: it reads no token ids, has no decoder whose attention is transformers' own, or
            it is none that takes a mask of four dimensions.
    """
    name = type(model).__name__
    if not getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise ModelError(f"{name} is no encoder–decoder. Load one with AutoModelForSeq2SeqLM.")
    refuse_other_sources(model)
    seats = [
        (role_of(path, module), module)
        for path, module in model.named_modules()
        if is_attention(module)
    ]
    missing = {"decoder", "cross"} - {role for role, _ in seats}
    if missing:
        raise ModelError(
            f"{name} has no {' and no '.join(sorted(missing))} attention that asks transformers' "
            "registry for its kernel, so its decoder cannot be made to see what comes later. Take "
            "a Transformer: Marian, BART, T5, EncoderDecoderModel."
        )
    for role, module in seats:
        if role == "decoder" and getattr(module, "has_relative_attention_bias", False):
            cast(Any, module).is_decoder = False  # which is all that its position bias goes by
    _check(model, name)


@torch.no_grad()
def _check(model: Any, name: str) -> None:
    """The first of three tokens must feel a change of the last one, unless that is padding."""
    weight = next(model.parameters())
    if weight.device.type == "meta":
        return
    training = model.training
    model.eval()
    try:
        source = torch.tensor([[0, 1]], device=weight.device).expand(4, -1)
        target = torch.tensor([[0, 1, 0], [0, 1, 1]], device=weight.device).repeat(2, 1)
        valid = torch.tensor([[1, 1, 1], [1, 1, 0]], device=weight.device)
        first = model(
            input_ids=source,
            attention_mask=torch.ones_like(source),
            decoder_input_ids=target,
            decoder_attention_mask=see_both_sides(valid.repeat_interleave(2, 0), weight.dtype),
            use_cache=False,
        ).logits[:, 0]
    finally:
        model.train(training)
    if torch.equal(first[0], first[1]) or not torch.allclose(first[2], first[3], atol=1e-4):
        raise ModelError(
            f"The decoder of {name} does not heed a mask of four dimensions: it cannot be made to "
            'attend to both sides. Load the model with attn_implementation="sdpa" or "eager".'
        )
