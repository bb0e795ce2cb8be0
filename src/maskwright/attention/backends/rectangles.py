"""Documents and padding as rectangles: which stretch of queries sees which stretch of keys.

Found in the columns of the axes, in time linear in their length.
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass

import numpy as np
import torch

from maskwright.attention.axis import Axis
from maskwright.attention.backends.problem import Mask, Problem
from maskwright.attention.backends.recognise import terms
from maskwright.attention.coordinates import scalars
from maskwright.attention.rules.relative import Causal
from maskwright.attention.rules.tokens import Documents, Marked, Padding, Same

_PARTING = (Documents, Same, Padding, Marked)

WHOLE, FLAG, MASKED = "whole", "flag", "masked"


@dataclass(frozen=True)
class Rectangle:
    """Queries ``top`` to ``bottom`` of a sample see keys ``left`` to ``right`` (ends excluded).

    Attributes:
        inside: ``whole``, all of them; ``flag``, those at or before it, both counted from the
            corner; ``masked``, as the rest of the pattern says.
    """

    sample: int
    top: int
    bottom: int
    left: int
    right: int
    inside: str

    @property
    def shape(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left


def find(problem: Problem) -> list[Rectangle] | str:
    """The rectangles of every sample (of sample 0 where all are alike), or why there are none.

    They are disjoint. No query outside of them sees any key.
    """
    known = problem.recognised
    if known.nothing:
        return []
    # a batch that happens to have no padding, or one document, is no reason to refuse
    parting = any(isinstance(term, _PARTING) for term in terms(problem.pattern))
    if not (parting or known.everything or known.causal):
        return f"`{problem.pattern}` has neither documents nor padding to take apart"
    batch = problem.extent[0]
    runs = []
    for name, axis, values, marks in zip(
        ("queries", "keys"),
        (problem.q, problem.kv),
        _documents(problem, batch),
        (known.q_marks, known.kv_marks),
        strict=True,
    ):
        marked = [_column(axis, channel, batch) for channel in marks]
        found = _runs(values, np.logical_and.reduce(marked) if marked else None)
        if (sample := _twice(found)) is not None:
            what = "one document" if known.alike else "the tokens"
            return f"the {name} of {what} of sample {sample} are not next to one another"
        runs.append(found)
    q_runs, kv_runs = runs
    chosen_q, chosen_kv = _match(q_runs, kv_runs)
    bounds = np.column_stack((q_runs[chosen_q][:, [0, 2, 3]], kv_runs[chosen_kv][:, 2:]))
    kinds = _kinds(problem, bounds)
    return [
        Rectangle(sample, top, bottom, left, right, kind)
        for (sample, top, bottom, left, right), kind in zip(bounds.tolist(), kinds, strict=True)
        if kind is not None
    ]


def mask_of(problem: Problem, one: Rectangle) -> Mask:
    """What the rest of the pattern allows in a rectangle: ``(batch or 1, heads or 1, q, kv)``."""
    q, kv = problem.q, problem.kv
    _, heads, *_ = problem.extent
    device = q.device if kv.plain else kv.device
    sides = scalars(
        q,
        kv,
        torch.full((1, 1, 1, 1), one.sample, device=device),
        torch.arange(heads, device=device).view(1, -1, 1, 1),
        torch.arange(one.top, one.bottom, device=device).view(1, 1, -1, 1),
        torch.arange(one.left, one.right, device=device).view(1, 1, 1, -1),
    )
    first, *others = (term.allowed(*sides) for term in problem.recognised.rest)
    allowed = functools.reduce(operator.and_, others, first)
    return Mask.of(allowed.expand(1, heads, *one.shape).to(problem.device))


def _documents(problem: Problem, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """For queries and for keys, ``(batch, length)`` numbers that are the same in one document."""
    axes, names = (problem.q, problem.kv), problem.recognised.alike
    if not names:
        q, kv = (np.zeros((batch, axis.length), np.int64) for axis in axes)
        return q, kv
    columns = [[_column(axis, name, batch) for axis in axes] for name in names]
    q, kv = columns[0]
    for other in columns[1:]:
        both = [np.stack(pair, -1).reshape(-1, 2) for pair in zip((q, kv), other, strict=True)]
        numbers = np.unique(np.concatenate(both), axis=0, return_inverse=True)[1].reshape(-1)
        q, kv = numbers[: q.size].reshape(q.shape), numbers[q.size :].reshape(kv.shape)
    return q, kv


def _column(axis: Axis, name: str, batch: int) -> np.ndarray:
    """A column as ``(batch, length)``."""
    column = axis.columns[name].detach().cpu()
    return column.expand(batch, axis.length).numpy()


def _runs(values: np.ndarray, token: np.ndarray | None) -> np.ndarray:
    """Stretches of one value: ``(runs, 4)`` of sample, value, start, stop; padding left out."""
    batch, length = values.shape
    begins = np.ones((batch, length), bool)
    begins[:, 1:] = values[:, 1:] != values[:, :-1]
    if token is not None:
        begins[:, 1:] |= token[:, 1:] != token[:, :-1]
    starts = np.flatnonzero(begins)
    stops = np.append(starts[1:], batch * length)
    sample = starts // length
    offset = sample * length
    runs = np.column_stack((sample, values.ravel()[starts], starts - offset, stops - offset))
    return runs if token is None else runs[token.ravel()[starts]]


def _twice(runs: np.ndarray) -> int | None:
    """A sample in which some value has two runs, if there is one."""
    order = np.lexsort((runs[:, 1], runs[:, 0]))
    named = runs[order, :2]
    again = (named[1:] == named[:-1]).all(1)
    return int(named[1:][again][0, 0]) if again.any() else None


def _match(q_runs: np.ndarray, kv_runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of both that are of one sample and one value, in the order of the queries."""
    values = np.unique(np.concatenate((q_runs[:, 1], kv_runs[:, 1])))
    keys = [
        runs[:, 0] * len(values) + np.searchsorted(values, runs[:, 1]) for runs in (q_runs, kv_runs)
    ]
    _, chosen_q, chosen_kv = np.intersect1d(*keys, assume_unique=True, return_indices=True)
    order = np.argsort(chosen_q)
    return chosen_q[order], chosen_kv[order]


def _kinds(problem: Problem, bounds: np.ndarray) -> list[str | None]:
    """What is inside each rectangle; None where nothing is."""
    others = problem.recognised.rest
    if not others:
        return [WHOLE] * len(bounds)
    first = others[0]
    if len(others) > 1 or not isinstance(first, Causal):
        return [MASKED] * len(bounds)
    batch = problem.extent[0]
    q, kv = problem.q, problem.kv
    placed = "positions" in q.columns or "positions" in kv.columns
    shift = 0 if placed or first.align == "upper-left" else kv.length - q.length
    sample, top, bottom, left, right = bounds.T
    q_places, kv_places = _places(q, batch), _places(kv, batch) - shift
    runs_on = _runs_on(q_places, sample, top, bottom) & _runs_on(kv_places, sample, left, right)
    ahead_first = kv_places[sample, left] - q_places[sample, top]
    ahead_most = kv_places[sample, right - 1] - q_places[sample, top]
    ahead_least = kv_places[sample, left] - q_places[sample, bottom - 1]
    kinds = np.full(len(bounds), MASKED, object)
    kinds[runs_on & (ahead_first == 0)] = FLAG
    kinds[runs_on & (ahead_most <= 0)] = WHOLE
    kinds[runs_on & (ahead_least > 0)] = None
    return kinds.tolist()


def _places(axis: Axis, batch: int) -> np.ndarray:
    """The positions that `causal` compares, ``(batch, length)``."""
    if "positions" in axis.columns:
        return _column(axis, "positions", batch)
    return np.broadcast_to(np.arange(axis.length), (batch, axis.length))


def _runs_on(
    places: np.ndarray, sample: np.ndarray, start: np.ndarray, stop: np.ndarray
) -> np.ndarray:
    """Whether positions go up one by one from start to stop."""
    breaks = np.zeros(places.shape, np.int64)
    breaks[:, 1:] = np.cumsum(places[:, 1:] - places[:, :-1] != 1, axis=1)
    return breaks[sample, start] == breaks[sample, stop - 1]
