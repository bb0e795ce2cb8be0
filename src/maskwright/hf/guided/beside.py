"""Several `Guidance` callbacks on one model: those of one run stand side by side, and of a run
before it none stays."""

from __future__ import annotations

from typing import Any

from maskwright.errors import ConfigError

_HOLDERS = "_maskwright_guidance"  # of a model: the callbacks whose hooks it has


def others_of_run(model: Any, state: Any, callback: Any) -> list[Any]:
    """The callbacks beside this one that hold the model in the same run, in their order.

    Those of a run before it, which has another state, are taken off.
    """
    holders: list[Any] = getattr(model, _HOLDERS, [])
    found = []
    for other in list(holders):
        if other is callback:
            continue
        if other.run_state() is state:
            found.append(other)
        else:
            other.detach()
    return found


def holds(model: Any, callback: Any) -> bool:
    """Whether the model has the callback's hooks."""
    return any(one is callback for one in getattr(model, _HOLDERS, []))


def take_hold(model: Any, callback: Any) -> None:
    """Note that the model has the callback's hooks."""
    object.__setattr__(model, _HOLDERS, [*getattr(model, _HOLDERS, []), callback])


def let_go(model: Any, callback: Any) -> None:
    """Note that it has them no more."""
    left = [one for one in getattr(model, _HOLDERS, []) if one is not callback]
    if left:
        object.__setattr__(model, _HOLDERS, left)
    elif hasattr(model, _HOLDERS):
        delattr(model, _HOLDERS)


def check_beside(callback: Any, others: list[Any], *, clocked: bool) -> None:
    """Whether a second `Guidance` can stand beside the others of its run.

    Raises:
        ConfigError: it cannot; the message says why, and what to change.
    """
    for other in others:
        if other.store.path == callback.store.path:
            raise ConfigError(
                f"Two Guidance callbacks write to {callback.store.path}, and their scores would "
                "mix. Leave one out, or give each a store of its own."
            )
        if other.source == callback.source:
            raise ConfigError(
                f"Two Guidance callbacks take the same scores, source={callback.source!r}. Use "
                "one; of attention, name in layers= and heads= all that it reads."
            )
        if other.withholds and callback.withholds:
            raise ConfigError(
                "Two Guidance callbacks would withhold scores (spike=, entropy_floor=), at "
                "different steps. Set them on one."
            )
    if others and not clocked:
        raise ConfigError(
            "A plain Trainer shows its batches to one Guidance callback only. Use MaskingTrainer, "
            "or leave the other out."
        )
