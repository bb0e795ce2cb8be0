"""How the labels of a language model lie to its logits."""

from __future__ import annotations

from typing import Any, Literal

from torch.nn import functional

from maskwright.errors import ModelError

Kind = Literal["masked", "causal", "seq2seq"]


def kind_of(model: Any) -> Kind:
    """What sort of language model it is.

    Raises:
        ModelError: it is none.
    """
    if getattr(model, "loss_type", None) == "ForMaskedLM":
        return "masked"
    # loss_type is None for several causal models, such as GPT2LMHeadModel
    if getattr(model, "can_generate", lambda: False)():
        return "seq2seq" if getattr(model.config, "is_encoder_decoder", False) else "causal"
    raise ModelError(
        f"{type(model).__name__} is no language model (its loss is "
        f"{getattr(model, 'loss_type', None)}). Load one with AutoModelForMaskedLM, "
        "AutoModelForCausalLM or AutoModelForSeq2SeqLM."
    )


def compared(kind: Kind, labels: Any, fill: int) -> Any:
    """Labels, or their weights, where the logits stand that they are compared with."""
    if kind != "causal":
        return labels
    return functional.pad(labels[..., 1:], (0, 1), value=fill)
