"""The middle layers of a stack on some of the tokens: narrowed before them, joined after them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from maskwright.errors import ConfigError, ModelError
from maskwright.hf.compute.row import Row
from maskwright.hf.compute.row_attention import RowMask


class MiddleLayers:
    """Hooks on the middle layers of a stack whose tokens are a row.

    Before the first of them the hidden states are narrowed to the kept tokens, and for each of them
    so is whatever it is given of tokens. Behind the last one they are put back among the states
    that the others had before the first. Kept tokens attend to kept tokens.

    Args:
        stack: a backbone.
        seats: its attention modules.
        first: how many layers run on all tokens before; None: half of them less one, but one at
            least, as in the code of the paper's authors.
        last: how many do so at the end.

    Raises:
        ConfigError: no layer is left in the middle.
        ModelError: the layers cannot be found.
    """

    def __init__(self, stack: Any, seats: list[nn.Module], first: int | None, last: int) -> None:
        layers = layers_of(stack, seats)
        count = len(layers)
        first = max(1, count // 2 - 1) if first is None else first
        if not (_whole(first) and _whole(last)) or first + last >= count:
            raise ConfigError(
                f"first={first!r}, last={last!r} of TokenDropping leave no middle layer of the "
                f"{count} of {type(stack).__name__}. They count layers that run on all tokens: "
                "together fewer than there are."
            )
        self.first, self.last, self.count = first, last, count
        self.layers = layers[first : count - last]
        self._handles: list[Any] = []
        self._kept: Tensor | None = None
        self._row: Row | None = None
        self._before: Tensor | None = None
        self._masks: dict[int, tuple[RowMask, RowMask]] = {}

    def install(self) -> None:
        for layer in self.layers:
            self._handles.append(layer.register_forward_pre_hook(self._narrow, with_kwargs=True))
        self._handles.append(self.layers[-1].register_forward_hook(self._join))

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.begin(None, None)

    def begin(self, row: Row | None, kept: Tensor | None) -> None:
        """A pass begins; what is said here holds in its backward pass, too.

        Args:
            row: of its ``T`` tokens; None: nothing is left out.
            kept: ``(K,)`` int64, rising: places in it.
        """
        self._row, self._kept, self._before, self._masks = row, kept, None, {}

    # -- hooks ------------------------------------------------------------------------------

    def _narrow(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._kept is None:
            return None
        states, others = (args[0], args[1:]) if args else (kwargs.pop("hidden_states"), ())
        if layer is self.layers[0]:
            self._before = states
            states = states.index_select(1, self._kept)
        others = tuple(map(self._of_kept, others))
        return (states, *others), {name: self._of_kept(value) for name, value in kwargs.items()}

    def _join(self, layer: Any, _inputs: Any, output: Any) -> Any:
        if self._kept is None or self._before is None:
            return None
        states = output[0] if isinstance(output, tuple) else output
        joined = self._before.index_copy(1, self._kept, states.to(self._before.dtype))
        return (joined, *output[1:]) if isinstance(output, tuple) else joined

    def _of_kept(self, value: Any) -> Any:
        """What a layer is given of tokens, of the kept ones only; anything else as it is."""
        assert self._row is not None
        assert self._kept is not None
        if isinstance(value, RowMask):
            if id(value) not in self._masks:
                # with the mask itself, so that its id stays taken
                self._masks[id(value)] = (
                    value,
                    RowMask(self._narrowed, self._narrowed, value.rule, value.asked),
                )
            return self._masks[id(value)][1]
        if isinstance(value, tuple):
            return tuple(map(self._of_kept, value))
        if isinstance(value, Tensor) and value.shape[:2] == (1, len(self._row)):
            return value.index_select(1, self._kept)
        return value

    @property
    def _narrowed(self) -> Row:
        assert self._row is not None
        assert self._kept is not None
        found = next(iter(self._masks.values()), None)
        if found is not None:  # one row for all masks: what is found out about it is kept there
            return found[1].q
        return Row(self._row.shape, self._row.places.index_select(0, self._kept))


def layers_of(stack: Any, seats: list[nn.Module]) -> list[nn.Module]:
    """The layers of a stack in their order.

    Raises:
        ModelError: no list of modules holds one attention each, for all layers of its config.
    """
    within = {id(seat) for seat in seats}
    for module in stack.modules():
        if isinstance(module, nn.ModuleList) and len(module) == stack.config.num_hidden_layers:
            inside = [sum(id(part) in within for part in layer.modules()) for layer in module]
            if inside == [1] * len(module) and len(module) == len(seats):
                return list(module)
    raise ModelError(
        f"{type(stack).__name__} has no list of {stack.config.num_hidden_layers} layers with one "
        "attention each (ALBERT's share their weights), so tokens cannot be dropped in between."
    )


def _whole(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0
