"""Where a model attends: its attention modules, what each is for, and which models are refused.

An attention module is one whose ``forward`` asks transformers' registry of attention functions
for its kernel. Everything else that carries information from one token to another (a state-space
layer, a recurrence, a convolution inside a layer, an attention with code of its own) would go
past a pattern, so a model that has any of it is refused by name.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from maskwright.attention import Pattern
from maskwright.errors import ModelError
from maskwright.hf.attachment.closed_heads import without_heads

if TYPE_CHECKING:
    from maskwright.hf.attachment.attach import Attachment
    from maskwright.hf.attachment.score_gates import ScoreGate

Role = Literal["encoder", "decoder", "cross"]
ROLES: tuple[Role, ...] = ("encoder", "decoder", "cross")
MARK = "_maskwright_seat"
_REGISTRY = "ALL_ATTENTION_FUNCTIONS"
# What the modules of cross-attention are called, where no attribute says so.
_CROSS = {"encoder_attn", "EncDecAttention", "crossattention", "cross_attn", "cross_attention"}
_MIXERS = re.compile(
    "Attention|Attn|Mixer|Mamba|SSM|Rwkv|RWKV|DeltaNet|Recurrent|Fourier|Hyena|Retention|ShortConv"
)
_KNOWN_LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}


class Seat:
    """One attention module of a model: what it is for, and the pattern it has been given.

    Attributes:
        role: encoder or decoder self-attention, or cross-attention.
        layer: its number among the modules of that role, from 0.
        name: where it is in the model, for messages.
        pattern: who may attend to whom in it; None: as the model has it.
        attachment: what it belongs to, once attached.
        gate: what narrows the pattern by the scores of the attention; None: nothing does.
        called: whether the module has called our function since its forward pass began.
    """

    attachment: Attachment

    def __init__(self, module: nn.Module, role: Role, layer: int, name: str) -> None:
        self.role: Role = role
        self.layer = layer
        self.name = name
        self.kind = type(module).__name__
        self.pattern: Pattern | None = None
        self.gate: ScoreGate | None = None
        self.called = False

    def narrowed(self, closed: frozenset[int]) -> Seat:
        """The same seat for the heads that are not closed."""
        other = copy.copy(self)
        other.pattern = without_heads(self.rule, closed)
        return other

    @property
    def rule(self) -> Pattern:
        """The pattern, where there is one."""
        assert self.pattern is not None
        return self.pattern

    def before(self, module: Any, _inputs: Any) -> None:
        """Forward pre-hook: the module must still ask for our function."""
        self.called = False
        asked = module.config._attn_implementation
        if not str(asked).startswith("maskwright-"):
            raise ModelError(
                f"{self.name} ({self.kind}) has a pattern attached, but its config asks for "
                f"attn_implementation={asked!r}, so the pattern would be dropped. The "
                "implementation was changed after attach(), or another model with the same config "
                "object was detached. detach(model), then attach again."
            )

    def after(self, _module: Any, _inputs: Any, _output: Any) -> None:
        """Forward hook: the module must have called our function."""
        if not self.called:
            raise ModelError(
                f"{self.name} ({self.kind}) ran without calling the attention function of its "
                "config, so its pattern would be dropped. This model cannot be attached to."
            )


def is_attention(module: nn.Module) -> bool:
    """Whether the module asks transformers' registry for its attention function."""
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    return code is not None and _REGISTRY in code.co_names


def find_seats(model: nn.Module, *, attached: bool = False) -> list[tuple[nn.Module, Seat]]:
    """Every attention module of a model with its role, in order.

    Args:
        model: of transformers.
        attached: whether it may have patterns already.

    Raises:
        ModelError: the model cannot be attached to.
    """
    name = type(model).__name__
    found: list[tuple[nn.Module, Seat]] = []
    counts: dict[str, int] = dict.fromkeys(ROLES, 0)
    for path, module in model.named_modules():
        if not is_attention(module):
            continue
        role = role_of(path, module)
        found.append((module, Seat(module, role, counts[role], path or name)))
        counts[role] += 1
    _refuse_mixers(model, [module for module, _ in found])
    if not found:
        raise ModelError(
            f"{name} has no attention that asks transformers' registry ({_REGISTRY}) for its "
            "kernel, so no pattern can be attached to it: its code computes attention by itself, "
            "or it has none."
        )
    for module, seat in found:
        _check(module, seat)
        if not attached and (bound := seat_of(module)) is not None:
            raise ModelError(
                f"{bound.name} ({bound.kind}) already has patterns attached. detach(model) first."
            )
    return found


def role_of(path: str, module: nn.Module) -> Role:
    """What an attention module is for.

    Raises:
        ModelError: it does not say.
    """
    last = path.rsplit(".", 1)[-1]
    if (
        getattr(module, "is_cross_attention", False)
        or last in _CROSS
        or "CrossAttention" in type(module).__name__
    ):
        return "cross"
    causal = getattr(module, "is_causal", None)
    if not isinstance(causal, bool):
        raise ModelError(
            f"{path} ({type(module).__name__}) does not say whether it is causal (is_causal), so "
            "it cannot be told whether it belongs to an encoder or a decoder."
        )
    return "decoder" if causal else "encoder"


def _check(module: nn.Module, seat: Seat) -> None:
    config: Any = getattr(module, "config", None)
    if config is None:
        raise ModelError(f"{seat.name} ({seat.kind}) has no config that names its attention.")
    asked = config._attn_implementation
    if asked is None or asked.removeprefix("maskwright-") not in ("sdpa", "eager"):
        raise ModelError(
            f"{seat.name} ({seat.kind}) runs attn_implementation={asked!r}; a pattern is attached "
            'to models that run "sdpa" or "eager" (it then chooses kernels of its own). Load the '
            'model so, or call model.set_attn_implementation("sdpa") first.'
        )
    registry = inspect.unwrap(type(module).forward).__globals__[_REGISTRY]
    if registry._local_mapping:
        own = ", ".join(sorted(registry._local_mapping))
        raise ModelError(
            f"{seat.kind} has attention functions of its own ({own}): what they do beside "
            "attention would be lost under a pattern."
        )
    unknown = set(getattr(config, "layer_types", None) or ()) - _KNOWN_LAYERS
    if unknown:
        raise ModelError(
            f"The layers of {config.model_type} include {', '.join(sorted(unknown))}: they carry "
            "information between tokens without attention, where no pattern holds."
        )


def _refuse_mixers(model: nn.Module, seats: list[nn.Module]) -> None:
    """Whatever else carries information between tokens, inside the layers or beside them."""
    inside = {id(part) for seat in seats for part in seat.modules()}
    for path, module in model.named_modules():
        if id(module) in inside or module is model:
            continue
        holds = any(id(part) in inside for part in module.modules())
        kind = type(module).__name__
        # the innermost of those that are named so: what it is, not what it is in
        if not holds and _mixes(module) and not any(map(_mixes, _below(module))):
            raise ModelError(
                f"{path} ({kind}) does not ask transformers' registry for its attention function: "
                "a pattern would not hold there, so none is attached to "
                f"{type(model).__name__}."
            )
        if isinstance(module, nn.ModuleList) and holds:
            _refuse_in_layers(path, module)


def _mixes(module: nn.Module) -> bool:
    kind = type(module).__name__
    return _MIXERS.search(kind) is not None and "Norm" not in kind


def _below(module: nn.Module) -> Iterator[nn.Module]:
    return (part for part in module.modules() if part is not module)


def _refuse_in_layers(path: str, layers: nn.ModuleList) -> None:
    for name, module in layers.named_modules():
        wide = isinstance(module, nn.Conv1d | nn.Conv2d) and max(module.kernel_size) > 1
        if wide or isinstance(module, nn.RNNBase):
            raise ModelError(
                f"{path}.{name} ({type(module).__name__}) carries information between tokens "
                "inside the layers, where no pattern holds, so none is attached."
            )


def seat_of(module: nn.Module) -> Seat | None:
    """The seat of a module that a pattern is attached to."""
    return getattr(module, MARK, None)
