"""Evaluation in full precision, of a model that is trained in a lower one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def full_precision(model: Any) -> Iterator[Any]:
    """Within it, the model computes as it does when it is loaded anew: without autocast.

    accelerate wraps the ``forward`` of a model that it prepares, and the wrapper stays with the
    object; an autocast that is switched off around a call does not reach inside it.
    """
    wrapped = model.__dict__.pop("forward", None) if "_original_forward" in vars(model) else None
    try:
        yield model
    finally:
        if wrapped is not None:
            model.__dict__["forward"] = wrapped
