"""Keys and values of the cross-attention, computed once for all passes over a target."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from maskwright.hf.attachment.seats import is_attention, role_of


class SourceStates:
    """The encoder's states of a batch, and of the targets that are being written.

    Args:
        states: ``(B, S, H)``.
        mask: ``(B, S)``, 0 at padding; None: there is none.
    """

    def __init__(self, states: Tensor, mask: Tensor | None) -> None:
        self.states, self.mask = states, mask
        self._made: dict[int, Tensor] = {}
        self._samples: Tensor | None = None
        self._found: dict[int, Tensor] = {}
        self._rows: tuple[Tensor, Tensor | None] = (states, mask)

    def of(self, samples: Tensor) -> tuple[Tensor, Tensor | None]:
        """``(R, S, H)`` states and ``(R, S)`` mask of the samples that targets belong to.

        Args:
            samples: ``(R,)`` int64.
        """
        if self._samples is None or not samples.equal(self._samples):
            mask = None if self.mask is None else self.mask[samples]
            self._samples, self._rows, self._found = samples, (self.states[samples], mask), {}
        return self._rows

    @contextmanager
    def kept(self, model: nn.Module) -> Iterator[None]:
        """Within it, linear maps of these states in ``model`` are computed once for each sample.

        They are told from others by the tensor that they are asked for, so nothing is assumed of
        how a model names them.
        """
        replaced: list[Any] = []
        for path, module in model.named_modules():
            if not is_attention(module) or role_of(path, module) != "cross":
                continue
            for child in module.children():
                if type(child) is nn.Linear and "forward" not in child.__dict__:
                    child.forward = self._remembering(child)
                    replaced.append(child)
        try:
            yield
        finally:
            for child in replaced:
                del child.forward

    def _remembering(self, linear: nn.Linear) -> Any:
        name = id(linear)

        def forward(states: Tensor) -> Tensor:
            if states is not self._rows[0]:
                return nn.Linear.forward(linear, states)
            if name not in self._found:
                if name not in self._made:
                    self._made[name] = nn.Linear.forward(linear, self.states)
                assert self._samples is not None
                self._found[name] = self._made[name][self._samples]
            return self._found[name]

        return forward
