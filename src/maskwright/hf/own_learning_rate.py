"""Parts of a model that learn at a rate of their own, beside the weights.

A module with ``own_learning_rate``, a number or None, gets a group of its own in the optimizer:
without weight decay, at that rate or, with None, at that of the weights. The scheduler shapes it as
it does the others.
"""

from __future__ import annotations

from typing import Any

from torch import nn

ATTRIBUTE = "own_learning_rate"


def with_own_rates(optimizer: Any, model: nn.Module) -> Any:
    """The optimizer of a model, as it was made, with such groups.

    It is for a new optimizer, before a scheduler is made of it.
    """
    for module in model.modules():
        if not hasattr(module, ATTRIBUTE):
            continue
        own = {id(one): one for one in module.parameters() if one.requires_grad}
        found = []
        for group in optimizer.param_groups:
            found += [one for one in group["params"] if id(one) in own]
            group["params"] = [one for one in group["params"] if id(one) not in own]
        if found:
            rate = getattr(module, ATTRIBUTE)
            settings = {} if rate is None else {"lr": rate}
            optimizer.add_param_group({"params": found, "weight_decay": 0.0, **settings})
    return optimizer
