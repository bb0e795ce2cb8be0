"""Configs of a model's own, for as long as something is changed in them.

Two models may have been made from one config, and neither is to notice what is done to the other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class _Lent:
    """A copy, the config that it stands for, and the fields that it had at first."""

    own: Any
    config: Any
    fields: dict[str, Any]


class OwnConfigs:
    """Copies in the place of configs that a model's modules have, from `install` to `give_back`.

    Args:
        model: whose modules.
        configs: which of their configs.
    """

    def __init__(self, model: nn.Module, configs: Sequence[Any]) -> None:
        self._configs = configs
        known = {id(one) for one in configs}
        self._modules = [one for one in model.modules() if id(vars(one).get("config")) in known]
        self._lent: list[_Lent] = []

    def install(self, change: Callable[[Any], None]) -> None:
        """From now on, until `give_back`, the modules have copies.

        Args:
            change: what is done to each of them.
        """
        copies = {id(one): copy.copy(one) for one in self._configs}
        for config in self._configs:
            own = copies[id(config)]
            fields = vars(own)
            # a config of two sides holds those of the sides
            fields |= {name: copies[id(v)] for name, v in fields.items() if id(v) in copies}
            change(own)
            self._lent.append(_Lent(own, config, dict(fields)))
        self._put(copies)

    def give_back(self) -> None:
        """The modules have their configs again, with what others have set in the copies
        meanwhile; again does nothing more."""
        lent, self._lent = self._lent, []
        self._put({id(one.own): one.config for one in lent})
        for one in lent:
            for name, value in vars(one.own).items():
                if name not in one.fields or one.fields[name] is not value:
                    vars(one.config)[name] = value

    def _put(self, found: dict[int, Any]) -> None:
        """In place of each config the one that is found under its id."""
        for module in self._modules:
            held = vars(module).get("config")
            if id(held) in found:
                vars(module)["config"] = found[id(held)]
