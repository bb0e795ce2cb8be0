"""Patterns on a Hugging Face model: who may attend to whom in it, in one line.

    attachment = attach(model, encoder=window(128), cross=wait_k(3))

Nothing of the model is rewritten. Its attention modules ask transformers' registry for their
kernel and for their mask, and are given ours; `detach` gives them back what they had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from maskwright.attention import Pattern, full
from maskwright.errors import ModelError, PatternError, unknown
from maskwright.hf.attachment.attention_function import ORIGINALS, name_for, register
from maskwright.hf.attachment.columns import Given, read_columns
from maskwright.hf.attachment.seats import MARK, ROLES, Role, Seat, find_seats

if TYPE_CHECKING:
    from maskwright.hf.attachment.pose import Queries
    from maskwright.hf.attachment.score_gates import ScoreGate

Layers = (
    Pattern
    | Mapping[int, Pattern | None]
    | Sequence[Pattern | None]
    | Callable[[int], Pattern | None]
)
Combine = Literal["restrict", "replace"]
_HELD = "_maskwright_attachment"
_SPELLED: dict[Role, str] = {
    "encoder": "bidirectional self-attention",
    "decoder": "causal self-attention",
    "cross": "cross-attention",
}


def attach(
    model: nn.Module,
    encoder: Layers | None = None,
    decoder: Layers | None = None,
    cross: Layers | None = None,
    *,
    combine: Combine = "restrict",
    scores: Mapping[Role, ScoreGate] | None = None,
) -> Attachment:
    """Attach patterns to a Hugging Face model, at once and until `detach`.

    Each of ``encoder``, ``decoder`` (self-attention, bidirectional or causal) and ``cross`` takes
    a pattern for all layers, or one for each: a list, a dict ``{layer: pattern}`` or a function
    of the layer's number. Layers left out, or given None, stay as they are.

    Positions count tokens: from the first one behind left padding, on through the cache while
    generating, and on through packed documents. In cross-attention queries are at their positions
    in the target, keys at theirs in the source.

    Args:
        model: a model of transformers that runs "sdpa" or "eager" attention.
        encoder: for self-attention without a causal mask, of BERT as of T5's encoder.
        decoder: for causal self-attention, of GPT-2 as of T5's decoder.
        cross: for attention from decoder to encoder.
        combine: ``restrict``: a pair must be allowed by the pattern and by the model's own mask
            (causal, window, packing, padding). ``replace``: the pattern takes the place of causal
            and window; packing and padding stay.
        scores: for a role, what narrows its patterns by the scores of the attention itself:
            ``{"cross": TopScores(4)}``. Its other layers, if any, get the pattern `full`.

    Returns:
        The attachment: a context manager that detaches at its end, with `columns` for data.

    Raises:
        ModelError: the model cannot be attached to, lacks the role, or has patterns already.
        PatternError: something else than patterns, or layers that the model does not have.

    >>> from transformers import GPT2Config, GPT2Model
    >>> from maskwright.attention import window
    >>> model = GPT2Model(GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=9))
    >>> attach(model, decoder={0: window(4)})
    Attachment(GPT2Model, decoder 0: window(4))
    >>> detach(model)
    """
    if combine not in ("restrict", "replace"):
        raise PatternError(f'combine={combine!r} of attach: it is "restrict" or "replace".')
    asked = {"encoder": encoder, "decoder": decoder, "cross": cross}
    gates = dict(scores or {})
    if unknown_roles := [role for role in gates if role not in ROLES]:
        raise PatternError(unknown("role in scores= of attach", unknown_roles[0], ROLES))
    if all(one is None for one in asked.values()) and not gates:
        raise PatternError("attach() was given no pattern: encoder=, decoder= or cross=.")
    seats = find_seats(model)
    for role in ROLES:
        own = [seat for _, seat in seats if seat.role == role]
        if role in gates and asked[role] is None:
            asked[role] = full
        _assign(model, role, asked[role], own)
        for seat in own if role in gates else ():
            seat.pattern = full if seat.pattern is None else seat.pattern
            seat.gate = gates[role]
    register()
    attachment = Attachment(model, seats, combine)
    object.__setattr__(model, _HELD, attachment)
    return attachment


def attached_to(model: nn.Module) -> Attachment | None:
    """The patterns on a model; None where there are none."""
    return getattr(model, _HELD, None)


def detach(model: nn.Module) -> None:
    """Take the patterns off a model; it then is what it was.

    Raises:
        ModelError: nothing is attached to it.
    """
    attachment = getattr(model, _HELD, None)
    if attachment is None:
        raise ModelError(
            f"{type(model).__name__} has no patterns attached (attach and detach take the same "
            "module)."
        )
    attachment.detach()


class Attachment(AbstractContextManager["Attachment"]):
    """Patterns on a model; of `attach`."""

    def __init__(
        self, model: nn.Module, seats: list[tuple[nn.Module, Seat]], combine: Combine
    ) -> None:
        self.model = model
        self.combine: Combine = combine
        self.queries: Queries | None = None
        """Who asks in the cross-attention that comes next."""
        self.weights = False
        """Whether this forward pass is to return attention weights."""
        self._seats = seats
        self._standing = Given()
        self._batch: Given | None = None
        self._handles: list[Any] = []
        self._configs = configs_of(model, [module for module, _ in seats])
        for config in self._configs:
            was = config._attn_implementation.removeprefix("maskwright-")
            config._attn_implementation_internal = name_for(was)
        for module, seat in seats:
            seat.attachment = self
            setattr(module, MARK, seat)
            if seat.pattern is not None:
                self._handles.append(module.register_forward_pre_hook(seat.before))
                self._handles.append(module.register_forward_hook(seat.after))
        self._handles.append(model.register_forward_pre_hook(self._open, with_kwargs=True))
        self._handles.append(model.register_forward_hook(self._close, always_call=True))

    def columns(
        self,
        encoder: Mapping[str, Any] | None = None,
        decoder: Mapping[str, Any] | None = None,
        *,
        copies: int = 1,
    ) -> AbstractContextManager[None]:
        """Data that patterns ask of tokens: segments, turns, marks; from now on, or in a `with`.

        One forward pass can also be given its own, as ``model(..., columns={"decoder": {...}})``:
        put them into the batch, and any training loop hands them on.

        Args:
            encoder: columns of the encoder's tokens, ``(length,)`` or ``(batch, length)`` each,
                padding included; also of the keys of cross-attention.
            decoder: of the decoder's tokens; also of the queries of cross-attention. For
                `generate`, long enough for all that will be generated.
            copies: how many sequences `generate` makes of each sample: the larger of
                ``num_beams`` and ``num_return_sequences``.

        Raises:
            AxisError: a column is none, or one of "positions" and "valid", which are the model's
                to say.
        """
        before = self._standing
        self._standing = read_columns({"encoder": encoder, "decoder": decoder}, copies)
        return _Restore(self, before)

    def detach(self) -> None:
        """Take the patterns off; again does nothing more."""
        for handle in self._handles:
            handle.remove()
        for config in self._configs:
            asked = str(config._attn_implementation)
            if asked in map(name_for, ORIGINALS):
                config._attn_implementation_internal = asked.removeprefix("maskwright-")
        for module, _ in self._seats:
            if hasattr(module, MARK):
                delattr(module, MARK)
        if hasattr(self.model, _HELD):
            delattr(self.model, _HELD)
        self._handles, self._configs, self._seats = [], [], []

    @property
    def seats(self) -> list[tuple[nn.Module, Seat]]:
        """Every attention module of the model, with what it is for and its pattern."""
        return self._seats

    def seat_of(self, module: nn.Module) -> Seat:
        """The seat of one of them."""
        return next(seat for one, seat in self._seats if one is module)

    @property
    def given(self) -> Given:
        """The columns in force: of this forward pass, or those that stand."""
        return self._standing if self._batch is None else self._batch

    def _open(self, _module: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Pre-hook of the model: takes the columns of this batch out of its arguments."""
        self.queries = None
        self.weights = bool(options.get("output_attentions"))
        if "columns" not in options:
            return None
        options = dict(options)
        self._batch = read_columns(options.pop("columns"))
        return inputs, options

    def _close(self, _module: Any, _inputs: Any, _output: Any) -> None:
        self._batch = None
        self.queries = None
        self.weights = False

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def __setstate__(self, state: dict[str, Any]) -> None:
        register()
        for name, value in state.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        shown = [
            f", {seat.role} {seat.layer}: {seat.pattern}"
            + ("" if seat.gate is None else f" by {seat.gate}")
            for _, seat in self._seats
            if seat.pattern is not None
        ]
        combined = "" if self.combine == "restrict" else f', combine="{self.combine}"'
        return f"Attachment({type(self.model).__name__}{''.join(shown)}{combined})"


class _Restore(AbstractContextManager[None]):
    def __init__(self, attachment: Attachment, before: Given) -> None:
        self._attachment, self._before = attachment, before

    def __exit__(self, *_: object) -> None:
        self._attachment._standing = self._before


def _assign(model: nn.Module, role: Role, asked: Layers | None, seats: list[Seat]) -> None:
    """Give the seats of one role their patterns."""
    if asked is None:
        return
    name = type(model).__name__
    if not seats:
        raise ModelError(
            f"{name} has no {_SPELLED[role]}, so {role}= has nowhere to go. It has: "
            f"{_roles(model)}."
        )
    if isinstance(asked, Pattern):
        found: dict[int, Any] = dict.fromkeys(range(len(seats)), asked)
    else:
        found = _per_layer(model, role, asked, seats)
    for layer, pattern in found.items():
        if pattern is not None and not isinstance(pattern, Pattern):
            raise PatternError(
                f"{role}= of attach gives {pattern!r} for layer {layer}: it is a pattern, or None."
            )
        seats[layer].pattern = pattern


def _per_layer(model: nn.Module, role: str, asked: Any, seats: list[Seat]) -> dict[int, Any]:
    count = len(seats)
    config: Any = getattr(model, "config", None)
    layers = getattr(config, "num_hidden_layers", count)
    if count < layers and not getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{type(model).__name__} runs {layers} layers through {count} attention modules, so "
            "its layers cannot have patterns of their own. Give one pattern for all."
        )
    if isinstance(asked, Mapping):
        unknown = [key for key in asked if key not in range(count)]
        if unknown:
            raise PatternError(
                f"{role}= of attach names layer {unknown[0]!r}; {type(model).__name__} has layers "
                f"0 to {count - 1} there."
            )
        return dict(asked)
    if isinstance(asked, Sequence) and not isinstance(asked, str):
        if len(asked) != count:
            raise PatternError(
                f"{role}= of attach lists {len(asked)} patterns; {type(model).__name__} has "
                f"{count} layers there."
            )
        return dict(enumerate(asked))
    if callable(asked):
        return {layer: asked(layer) for layer in range(count)}
    raise PatternError(
        f"{role}={asked!r} of attach: it is a pattern, or a list, a dict or a function of layers."
    )


def _roles(model: nn.Module) -> str:
    return ", ".join(dict.fromkeys(f"{seat.role}=" for _, seat in find_seats(model)))


def configs_of(model: nn.Module, seats: list[nn.Module]) -> list[Any]:
    """The configs that attention and mask functions are looked up in: of seats, and around them."""
    within = {id(seat) for seat in seats}
    found: dict[int, Any] = {}
    for module in model.modules():
        config = getattr(module, "config", None)
        asked = getattr(config, "_attn_implementation", None)
        if asked is None or asked.removeprefix("maskwright-") not in ORIGINALS:
            continue
        if any(id(part) in within for part in module.modules()):
            found[id(config)] = config
    return list(found.values())
