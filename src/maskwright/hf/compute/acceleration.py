"""Training that pays only for what the masks leave, in one line; the same loss and gradients.

    acceleration = accelerate_model(model)
    model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()

Padding does not go through the model, and the output head is computed at predicted positions only,
a few rows of logits at a time. Nothing of the model is rewritten; `Acceleration.remove` gives it
back what it had.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from maskwright.corruption.emit import IGNORE
from maskwright.errors import ConfigError, ModelError
from maskwright.hf.attachment.attach import configs_of
from maskwright.hf.attachment.seats import find_seats
from maskwright.hf.compute.batch import for_decoder, needed
from maskwright.hf.compute.head import PredictedHead
from maskwright.hf.compute.own_configs import OwnConfigs
from maskwright.hf.compute.row_attention import ask_for_rows, register
from maskwright.hf.compute.stack import Stack
from maskwright.hf.language_model import Kind, compared, kind_of

Unpad = bool | Literal["auto"]
_HELD = "_maskwright_acceleration"


def accelerate_model(
    model: nn.Module, head: bool = True, unpad: Unpad = "auto", *, rows: int | None = None
) -> Acceleration:
    """Make a model's training cost what its masks leave, from now on and until it is removed.

    With ``head``, a call of the model in training mode with ``labels`` gives the loss, of
    predicted positions, and no logits (None): cross-entropy over them, divided by their number or
    by ``num_items_in_batch``, 0 where nothing is predicted. Any other call gives logits as ever.

    With ``unpad``, a batch with padding goes through each stack as one row of its real tokens,
    every sample attending to itself, at the positions that it would have had. Hidden states come
    back in their old shape, zeros at padding. The first token behind left padding is not predicted
    by a causal model: there is nothing to predict it from. Attention dropout is drawn for other
    tensors, so its draws differ; its distribution does not. Batches without padding, with a cache,
    with 4-D masks, or that ask for hidden states or attentions, go through as ever.

    Args:
        model: a language model of transformers, not wrapped, running "sdpa" or "eager".
        head: whether to compute the head at predicted positions only.
        unpad: ``"auto"``: where the model allows it; True: it must.
        rows: logits of so many positions at once; as many as are fast unless given.

    Returns:
        The acceleration: a context manager that removes itself at its end.

    Raises:
        ModelError: it is no language model, it is accelerated already, its head or, with
            ``unpad=True``, its attention does not allow it.
        ConfigError: there is nothing to do.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> sizes = {"n_layer": 1, "n_head": 2, "n_embd": 8, "vocab_size": 9}
    >>> model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=1, eos_token_id=2))
    >>> with accelerate_model(model) as acceleration:
    ...     print(acceleration)
    Acceleration(GPT2LMHeadModel, head, unpad)
    """
    acceleration = Acceleration(model, head, unpad, rows=rows)
    acceleration.install()
    return acceleration


class Acceleration(AbstractContextManager["Acceleration"]):
    """What `accelerate_model` does to a model. Made, it does nothing until `install`.

    Args: as for `accelerate_model`.

    Attributes:
        refusal: why the model's batches are not unpadded, or None.
    """

    def __init__(
        self, model: Any, head: bool = True, unpad: Unpad = "auto", *, rows: int | None = None
    ) -> None:
        if unpad not in (True, False, "auto"):
            raise ConfigError(f'unpad={unpad!r} of accelerate_model: True, False or "auto".')
        if not head and not unpad:
            raise ConfigError("accelerate_model(head=False, unpad=False) has nothing to do.")
        self.model = model
        self.kind: Kind = kind_of(model)
        self.head = PredictedHead(model, rows) if head else None
        self.refusal: str | None = None
        self.stacks: list[Stack] = []
        self.installed = False
        self._configs: OwnConfigs | None = None
        self._handles: list[Any] = []
        self._open: Any = None
        self._targets: Tensor | None = None
        self._count: Any = None
        if unpad:
            self._find_stacks(required=unpad is True)

    def install(self, *, labels: bool = True) -> None:
        """From now on, until `remove`.

        Args:
            labels: whether a call with labels computes their loss here. A training loop that has
                a loss of its own asks `head` for it.

        Raises:
            ModelError: another acceleration is installed.
        """
        if getattr(self.model, _HELD, None) is not None:
            raise ModelError(
                f"{type(self.model).__name__} is accelerated already. remove() that first."
            )
        object.__setattr__(self.model, _HELD, self)
        self.installed = True
        if self._configs is not None:
            register()
            self._configs.install(ask_for_rows)
        for stack in self.stacks:
            stack.install()
        if labels and (self.head is not None or self.kind == "seq2seq"):
            self._handles = [
                self.model.register_forward_pre_hook(self._before, with_kwargs=True),
                self.model.register_forward_hook(self._after, always_call=True),
            ]

    def remove(self) -> None:
        """The model is what it was; again does nothing more. Gradients are to be computed before,
        where layers are checkpointed."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        for stack in self.stacks:
            stack.remove()
        if self._configs is not None:
            self._configs.give_back()
        if getattr(self.model, _HELD, None) is self:
            delattr(self.model, _HELD)
        self.installed = False

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        parts = [name for name, there in (("head", self.head), ("unpad", self.stacks)) if there]
        return f"Acceleration({', '.join([type(self.model).__name__, *parts])})"

    def reachable(self, labels: Tensor, mask: Tensor | None) -> Tensor:
        """Labels without those that a causal model would predict from padding.

        The first token behind left padding has nothing before it. A plain model compares it with
        whatever stands at the padding; without padding there is nothing, as in a sample that
        begins at the left.

        Args:
            labels: ``(B, S)``, where the logits stand that they are compared with.
            mask: ``(B, S)`` of the batch, 0 at padding.
        """
        if self.kind != "causal" or not self.stacks or mask is None or mask.shape != labels.shape:
            return labels
        return torch.where(mask != 0, labels, IGNORE)

    # -- unpadding --------------------------------------------------------------------------

    def _find_stacks(self, required: bool) -> None:
        try:
            seats = [module for module, _ in find_seats(self.model, attached=True)]
            parts = _stacks(self.model)
            two = len(parts) == 2
            self.stacks = [
                Stack(
                    one,
                    [seat for seat in seats if any(seat is part for part in one.modules())],
                    # no decoder asks for what the pooler of its encoder makes
                    pooled=not two,
                    # a masked model's decoder is handed a mask of padding alone
                    both_sides=two and self.kind == "masked",
                )
                for one in parts
            ]
            covered = {id(module) for stack in self.stacks for module in stack.attentions}
            if any(id(seat) not in covered for seat in seats):
                raise ModelError(
                    f"{type(self.model).__name__} attends outside of its encoder and decoder."
                )
        except ModelError as error:
            if required:
                raise ModelError(f"unpad=True of accelerate_model: {error}") from None
            self.stacks, self.refusal = [], str(error)
            return
        self._configs = OwnConfigs(self.model, configs_of(self.model, seats))

    # -- calls with labels ------------------------------------------------------------------

    def _before(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        labels = kwargs.get("labels")
        if labels is None or not model.training:
            return None
        if self.head is None:
            # what the decoder makes of its inputs is left to the model
            mask = kwargs.get("decoder_attention_mask")
            return args, kwargs | {
                "decoder_attention_mask": needed(labels) if mask is None else mask
            }
        count = kwargs.get("num_items_in_batch")
        inputs = {k: v for k, v in kwargs.items() if k not in ("labels", "num_items_in_batch")}
        inputs = for_decoder(model, self.kind, inputs, labels)
        labels = self.reachable(compared(self.kind, labels, IGNORE), inputs.get("attention_mask"))
        positions = (labels.flatten() != IGNORE).nonzero().squeeze(1)
        self._targets = labels.flatten().index_select(0, positions)
        self._count = max(1, len(positions)) if count is None else count
        self._open = self.head.open(positions, (labels.shape[0], labels.shape[1]))
        self._open.__enter__()
        return args, inputs | {"return_dict": True}

    def _after(self, _model: Any, _inputs: Any, output: Any) -> Any:
        if self._open is None:
            return None
        opened, self._open = self._open, None
        targets, self._targets = self._targets, None
        opened.__exit__(None, None, None)
        if output is None:  # the pass broke off
            return None
        assert self.head is not None
        assert targets is not None
        if getattr(output, "aux_loss", None) is not None:
            raise ModelError(
                f"{type(self.model).__name__} adds a loss of its routers to that of the labels, "
                "which would be lost. Use head=False, or output_router_logits=False."
            )
        logits = output["logits"]
        output["loss"], _ = self.head.loss(logits, targets, divisor=self._count)
        output["logits"] = None
        return output


def _stacks(model: Any) -> list[nn.Module]:
    """The backbone, or the encoder and the decoder."""
    if not getattr(model.config, "is_encoder_decoder", False):
        base = model.base_model
        if base is model:
            raise ModelError(
                f"{type(model).__name__} has no backbone apart from its head (no base_model)."
            )
        return [base]
    decoder = model.get_decoder()
    # of an EncoderDecoderModel, whose decoder has a head of its own
    return [model.get_encoder(), getattr(decoder, "base_model", decoder)]
