"""An encoder or a decoder that gets the real tokens of a padded batch as one row.

Nothing of the model is rewritten. Before it runs, its inputs are narrowed to the tokens that are
no padding, with the positions that they would have had; after it, its hidden states are put back
where they belong, zeros at padding. Embeddings, feed-forward layers and norms work token by token
and never notice; attention is told by `row_attention` which tokens belong together.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from maskwright.attention import Pattern, full
from maskwright.errors import ModelError
from maskwright.hf.attachment.model_mask import from_tensor
from maskwright.hf.compute.relative_bias import SampleBias, biased_modules
from maskwright.hf.compute.row import Row
from maskwright.hf.compute.row_attention import STACK, Marker

# What a stack is given of every token, ``(B, S)`` or ``(B, S, H)``.
_OF_TOKENS = ("input_ids", "inputs_embeds", "token_type_ids")


class Stack:
    """One stack of a model: what goes in as a row, and what comes out padded again.

    Args:
        module: the stack, such as ``model.bert`` or ``model.model.decoder``.
        attentions: the attention modules in it.
        pooled: whether what its pooler makes is read, if it has one.
        both_sides: whether it may be handed a mask of four dimensions that forbids padding alone,
            in place of the rule that it has by itself.

    Attributes:
        row: the row that is in it now; None: a batch as it was.
        last: the row that went in last, or None; still there when layers run again for their
            gradients.

    Raises:
        ModelError: the stack takes positions in no way that is known here.
    """

    def __init__(
        self,
        module: nn.Module,
        attentions: Sequence[nn.Module],
        *,
        pooled: bool = True,
        both_sides: bool = False,
    ) -> None:
        self.module = module
        self.attentions = attentions
        self.both_sides = both_sides
        self.row: Row | None = None
        self.last: Row | None = None
        self.name = type(module).__name__
        self._markers: list[Marker] = []
        self._handles: list[Any] = []
        self._signature = inspect.signature(type(module).forward)
        self._names = set(self._signature.parameters)
        self._placed = [
            part
            for name, part in module.named_modules()
            if name.rsplit(".", 1)[-1] == "embed_positions"
        ]
        self._biases = [SampleBias(self, part) for part in biased_modules(attentions)]
        self._refuse(pooled)

    def install(self) -> None:
        """From now on, until `remove`."""
        for module in self.attentions:
            object.__setattr__(module, STACK, self)
        for part in self._placed:
            self._handles.append(part.register_forward_pre_hook(self._place, with_kwargs=True))
        for bias in self._biases:
            bias.install()
        self._handles += [
            self.module.register_forward_pre_hook(self._before, with_kwargs=True),
            self.module.register_forward_hook(self._after, always_call=True),
        ]

    def remove(self) -> None:
        """The stack is what it was; again does nothing more."""
        for bias in self._biases if self._handles else ():
            bias.remove()
        for handle in self._handles:
            handle.remove()
        self._handles, self.last = [], None
        for module in self.attentions:
            if hasattr(module, STACK):
                delattr(module, STACK)

    def _refuse(self, pooled: bool) -> None:
        why = None
        if "attention_mask" not in self._names:
            why = "takes no attention_mask"
        elif pooled and getattr(self.module, "pooler", None) is not None:
            why = "has a pooler, which reads the first token of every sample"
        elif self._placed:
            if any("position_ids" not in inspect.signature(type(p).forward).parameters
                   for p in self._placed):  # fmt: skip
                why = "has an embed_positions that takes no position_ids"
        elif "position_ids" not in self._names and not self._biases:
            why = "takes no position_ids, so where its tokens stand cannot be told to it"
        if why is not None:
            raise ModelError(f"{self.name} {why}: its batches cannot be unpadded. Use unpad=False.")

    # -- before and after -------------------------------------------------------------------

    def _before(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = dict(self._signature.bind(module, *args, **kwargs).arguments)
        given.pop(next(iter(self._signature.parameters)))
        for name, parameter in self._signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                given |= given.pop(name, {})
        rule = self._open_up(given)
        rows = self._rows(given)
        self.last = None if rows is None else rows[0]
        if rows is None:
            return None
        q, kv = rows
        self._refuse_others(given, q.shape)
        given["position_ids"] = self._positions(given, q)
        if "position_ids" not in self._names:
            del given["position_ids"]
        for name in _OF_TOKENS:
            if given.get(name) is not None:
                given[name] = q.gather(given[name])
        given["attention_mask"] = self._marked(q, q, rule)
        if kv is not None:
            given["encoder_hidden_states"] = kv.gather(given["encoder_hidden_states"])
            given["encoder_attention_mask"] = self._marked(q, kv)
        if "use_cache" in self._names:
            given["use_cache"] = False
        self.row = q
        return (), given

    def _after(self, _module: Any, _inputs: Any, output: Any) -> Any:
        row, self.row = self.row, None
        for marker in self._markers:
            marker.withdraw()
        self._markers = []
        if row is None or output is None:
            return None
        hidden = row.scatter(output[0])
        if isinstance(output, tuple):
            return (hidden, *output[1:])
        output["last_hidden_state"] = hidden
        return output

    def _place(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Pre-hook of a position embedding that the stack asks by itself (BART and its kin)."""
        if self.row is None:
            return None
        bound = inspect.signature(type(module).forward).bind(module, *args, **kwargs).arguments
        named = dict(list(bound.items())[1:])
        return (), named | {"position_ids": self.row.slots}

    # -- what a batch has -----------------------------------------------------------------------

    def _rows(self, given: dict[str, Any]) -> tuple[Row, Row | None] | None:
        """The rows of the stack's tokens and of the encoder's; None where the batch stays."""
        tokens = given.get("input_ids")
        tokens = given.get("inputs_embeds") if tokens is None else tokens
        config: Any = self.module.config
        if (
            tokens is None
            or given.get("past_key_values") is not None
            or given.get("use_cache")
            or any(
                given.get(name) or getattr(config, name, False)
                for name in ("output_attentions", "output_hidden_states")
            )
        ):
            return None
        q = _row(given.get("attention_mask"), tokens)
        states, kv = given.get("encoder_hidden_states"), None
        if states is not None:
            kv = _row(given.get("encoder_attention_mask"), states)
            if kv is None:
                return None
        if q is None or not len(q) or not (q.padded or (kv is not None and kv.padded)):
            return None
        return (q, kv) if kv is None or len(kv) else None

    def _positions(self, given: dict[str, Any], row: Row) -> Tensor:
        """``(1, T)``: as the stack itself counts them."""
        if given.get("position_ids") is not None:
            return row.gather(given["position_ids"])
        embeddings: Any = getattr(self.module, "embeddings", None)
        make = getattr(embeddings, "create_position_ids_from_input_ids", None)
        if make is None:
            return row.slots.unsqueeze(0)
        count = embeddings.padding_idx
        # RoBERTa and its kin count tokens that are not the padding token, from the number after it
        if given.get("input_ids") is not None:
            return row.gather(make(given["input_ids"], count))
        return row.slots.unsqueeze(0) + count + 1

    def _open_up(self, given: dict[str, Any]) -> Pattern | None:
        """The rule that the given mask of four dimensions puts in place of the model's own; the
        mask is then that of the tokens. None: there is none."""
        mask = given.get("attention_mask")
        if not (self.both_sides and isinstance(mask, Tensor) and mask.ndim == 4):
            return None
        if mask.stride(2) != 0:  # written out, so that it may say more: who asks
            return None
        given["attention_mask"] = from_tensor(mask[:, 0, 0])
        return full

    def _marked(self, q: Row, kv: Row, rule: Pattern | None = None) -> Tensor:
        marker = Marker(q, kv, rule)
        self._markers.append(marker)
        return marker.tensor

    def _refuse_others(self, given: dict[str, Any], shape: tuple[int, int]) -> None:
        known = (*_OF_TOKENS, "position_ids", "attention_mask")
        for name, value in given.items():
            if name.startswith("encoder_") or name in known or not isinstance(value, Tensor):
                continue
            if value.shape[:2] == shape:
                raise ModelError(
                    f"{self.name} is given {name}= of shape {tuple(value.shape)}: whether it "
                    "belongs to the tokens is not known, so the batch cannot be unpadded. Use "
                    "unpad=False."
                )


def _row(mask: Any, tokens: Tensor) -> Row | None:
    """The row of a batch; None where its mask is not of tokens."""
    if mask is None:
        return Row.of(torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))
    if not isinstance(mask, Tensor) or mask.ndim != 2 or mask.shape != tokens.shape[:2]:
        return None
    return Row.of(mask)
