"""What guidance asks of the other ranks of a run: what each has, and to wait for them."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import distributed

T = TypeVar("T")


def world() -> int:
    """How many ranks there are; 1 where nothing is distributed."""
    on = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if on else 1


def of_all_ranks(own: T) -> list[T]:
    """What each rank gave, in the order of the ranks; every rank calls it at the same step."""
    count = world()
    if count == 1:
        return [own]
    found: list[Any] = [None] * count
    distributed.all_gather_object(found, own)
    return found


def barrier() -> None:
    """Wait for the other ranks, where there are some."""
    if world() > 1:
        distributed.barrier()
