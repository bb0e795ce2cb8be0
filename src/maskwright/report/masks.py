"""What the masks did while the model learned: their drift over epochs, and rates on a time axis.

Both figures show what a run recorded at the points of its learning curve and in its log. Results
of a version that did not record it have neither.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from maskwright.report import svg
from maskwright.report.curves import Styles
from maskwright.report.palette import MUTED

Line = tuple[np.ndarray, np.ndarray]  # where [points], values [points], NaN where not measured

DRIFT = {
    "overlap": ("Overlap with the sample's previous mask", "Jaccard overlap"),
    "entropy": ("Variety of the selected tokens", "selection entropy (nats)"),
    "score": ("Scores of the selected tokens", "their mean score ÷ mean of all"),
    "scored": ("Tokens with a score", "share of maskable tokens"),
    "age": ("Age of the scores", "mean age (steps)"),
}
_NO_SHARE = ("entropy", "age")
_OF_SOME = ("threshold", "probability")  # rows of the time axis that not every policy has


def drift_figures(regime: Mapping[str, Any], styles: Styles, name: str) -> list[tuple[str, str]]:
    """Titles and figures of how masks change over epochs; those that have something to show.

    A line is a policy, the mean over its seeds. Overlap and variety are drawn for every policy;
    what is about scores, for guided ones.
    """
    figures = []
    for figure, (title, label) in DRIFT.items():
        lines = {
            policy["name"]: line
            for policy in regime["policies"]
            if (line := _drift(policy, figure)) is not None
        }
        if lines:
            figures.append((title, _drawn(figure, lines, styles, label, f"{name}-{figure}")))
    return figures


def time_axis(regime: Mapping[str, Any], styles: Styles, name: str) -> str:
    """Learning rate, mask rate and predicted tokens per step, one above the other; or nothing.

    With a policy that has a threshold, also that and the probability of its rule.
    """
    rows: list[tuple[str, Callable[[Mapping[str, Any]], Line]]] = [
        ("learning rate", lambda run: _logged(run, "learning_rate")),
        ("mask rate", lambda run: _logged(run, "mask_rate")),
        ("threshold", lambda run: _logged(run, "threshold")),
        ("probability", lambda run: _logged(run, "probability")),
        ("predicted a step", _predicted_per_step),
    ]
    tables = [
        (label, {p["name"]: _mean([of(run) for run in p["runs"]]) for p in regime["policies"]})
        for label, of in rows
    ]
    tables = [
        (label, {policy: line for policy, line in lines.items() if line is not None})
        for label, lines in tables
    ]
    tables = [(label, lines) for label, lines in tables if lines or label not in _OF_SOME]
    if not all(lines for _, lines in tables):
        return ""

    def draw(figure: Figure) -> None:
        axes: Sequence[Axes] = figure.subplots(len(tables), 1, sharex=True)
        for one, (label, lines) in zip(axes, tables, strict=True):
            _draw(one, lines, styles)
            one.set_ylabel(label)
            top = max(float(values.max()) for _, values in lines.values())
            low = min(float(values.min()) for _, values in lines.values())
            # a threshold of standard scores may be below 0
            one.set_ylim(min(0.0, 1.12 * low), 1.12 * max(top, 0.0) or 1)
            one.yaxis.set_major_locator(MaxNLocator(4))
        axes[-1].set_xlabel("training step")
        axes[-1].xaxis.set_major_locator(MaxNLocator(6, integer=True))
        figure.align_ylabels(list(axes))

    said = "; ".join(
        f"{policy} {line[1][-1]:.3g} predicted tokens per step at the end"
        for policy, line in tables[-1][1].items()
    )
    for label, lines in tables:
        if label in _OF_SOME:
            said += "; " + "; ".join(
                f"{policy} {label} from {line[1][0]:.3g} to {line[1][-1]:.3g}"
                for policy, line in lines.items()
            )
    named = [label for label, _ in tables[:-1]]
    alt = (
        f"{', '.join(named).capitalize()} and predicted tokens per step against training step: "
        f"{said}."
    )
    return svg.render(draw, (4.2, 1.0 + 1.2 * len(tables)), name, alt)


def _drawn(figure: str, lines: Mapping[str, Line], styles: Styles, label: str, name: str) -> str:
    def draw(page: Figure) -> None:
        axes = page.add_subplot()
        _draw(axes, lines, styles)
        if figure == "score":  # as chance selects
            axes.axhline(1, color=MUTED, linewidth=0.9, linestyle=(0, (5, 3)))
        elif figure not in _NO_SHARE:
            axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("epochs")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(6))

    ends = "; ".join(f"{policy} {line[1][-1]:.3g}" for policy, line in lines.items())
    return svg.render(
        draw, (4.2, 2.7), name, f"Line chart of {label} against epochs. Last: {ends}."
    )


def _draw(axes: Axes, lines: Mapping[str, Line], styles: Styles) -> None:
    for policy, (where, values) in lines.items():
        every = max(1, len(where) // 8)
        axes.plot(where, values, markevery=every, **styles[policy].mean_line)


def _drift(policy: Mapping[str, Any], figure: str) -> Line | None:
    lines = []
    for run in policy["runs"]:
        points = [point for point in run["history"] if point.get("masks")]
        values = [_value(point["masks"], figure) for point in points]
        lines.append((np.array([point["epoch"] for point in points]), np.array(values)))
    return _mean(lines)


def _value(masks: Mapping[str, float | None], figure: str) -> float:
    value = masks.get(figure)
    if value is None:
        return np.nan
    if figure != "score":
        return value
    whole = masks.get("score_all")
    return value / whole if whole else np.nan


def _logged(run: Mapping[str, Any], key: str) -> Line:
    log = [line for line in run["training"] if line.get(key) is not None]
    return np.array([line["step"] for line in log]), np.array([line[key] for line in log])


def _predicted_per_step(run: Mapping[str, Any]) -> Line:
    steps, predicted = _logged(run, "predicted")
    gone = np.diff(steps, prepend=0)
    return steps, np.diff(predicted, prepend=0) / np.maximum(gone, 1)


def _mean(lines: Sequence[Line]) -> Line | None:
    """Over seeds, where all of them have a point; None where no seed has a value."""
    if not lines or any(len(where) == 0 for where, _ in lines):
        return None
    shared = [place for place in lines[0][0] if all(place in where for where, _ in lines)]
    if not shared:
        return None
    rows = [values[np.isin(where, shared)].astype(float) for where, values in lines]
    mean = np.mean(rows, axis=0)  # NaN unless every seed has a value: no seed drops out unseen
    known = np.isfinite(mean)
    return (np.array(shared)[known], mean[known]) if known.any() else None
