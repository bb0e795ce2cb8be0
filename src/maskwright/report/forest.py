"""Paired differences as a forest plot: who is better than the reference, and how surely."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory

from maskwright.report import formatting, svg
from maskwright.report.palette import BEHIND, MUTED, SeriesStyle
from maskwright.report.tables import HIGHER_IS_BETTER, SHARES, measure

# Differences up to this size always fit into the frame. Beyond it, one that is five times the
# median is a runaway: it becomes an arrow, lest it press all the others onto the zero line.
ORDINARY = {"loss": 0.2, "accuracy": 0.02, "macro_f1": 0.02, "bleu": 2.0, "chrf": 2.0}


def paired_differences(
    differences: Sequence[Mapping[str, Any]],
    metric: str,
    styles: Mapping[str, SeriesStyle],
    name: str,
) -> str:
    """Forest plot of one metric: mean difference with interval, and a ring for each seed.

    ``differences`` are the entries of that metric, at least one. Accuracy and macro-F1 are drawn in
    percentage points. A difference far outside the scale of the others is drawn as an arrow with
    its value.
    """
    title, one = measure(metric)
    scale = 100.0 if metric in SHARES else 1.0
    reference = formatting.shortened(str(differences[0]["reference"]), 18)
    edge = scale * _edge([_extent(difference) for difference in differences], metric)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for row, difference in enumerate(differences):
            _draw_difference(axes, -row, difference, scale, edge, styles, one)
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.set_xlim(-edge, edge)
        axes.set_ylim(-len(differences) + 0.55, 0.75)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        unit = " (points)" if metric in SHARES else ""
        axes.set_xlabel(f"{title}{unit}, policy minus {reference}")
        up = metric in HIGHER_IS_BETTER
        lower, higher = ("worse", "better") if up else ("better", "worse")
        above = blended_transform_factory(axes.transAxes, axes.transAxes)
        for x, text, side in ((0, f"← {lower}", "left"), (1, f"{higher} →", "right")):
            axes.text(x, 1.02, text, transform=above, ha=side, va="bottom", color=MUTED)
        axes.text(0.5, 1.02, reference, transform=above, ha="center", va="bottom")

    parts = "; ".join(
        f"{d['policy']} {one(d['mean'], signed=True)}, {d['verdict']}" for d in differences
    )
    alt = f"Forest plot of the paired difference in {title} against {reference}: {parts}."
    return svg.render(draw, (4.2, 1.0 + 0.52 * len(differences)), name, alt)


def _draw_difference(
    axes: Axes,
    y: float,
    difference: Mapping[str, Any],
    scale: float,
    edge: float,
    styles: Mapping[str, SeriesStyle],
    one: Any,
) -> None:
    style = styles[difference["policy"]]
    mean, low, high = (difference[key] for key in ("mean", "low", "high"))
    label = formatting.shortened(str(difference["policy"]), 30)
    place = (0, y + 0.36)
    axes.annotate(label, place, xycoords=("axes fraction", "data"), va="center", bbox=BEHIND)
    if mean is None or not np.isfinite(mean):
        return
    if abs(scale * mean) > edge:
        side = 1 if mean > 0 else -1
        axes.annotate(
            one(mean, signed=True),
            (side * edge, y),
            xytext=(side * edge * 0.72, y),
            va="center",
            ha="right" if side > 0 else "left",
            arrowprops={"arrowstyle": "-|>", "color": style.colour, "linewidth": 1.7},
        )
        return
    if low is not None and high is not None:
        axes.plot([scale * low, scale * high], [y, y], color=style.colour, linewidth=1.9)
    seeds = [scale * value for value in difference["per_seed"] if value is not None]
    rings = {"marker": "o", "markersize": 3.4, "fillstyle": "none", "markeredgewidth": 0.7}
    axes.plot(seeds, [y - 0.2] * len(seeds), linestyle="", color=style.colour, **rings)
    axes.plot([scale * mean], [y], **(style.mean_line | {"linestyle": "", "markersize": 6.5}))


def _extent(difference: Mapping[str, Any]) -> float:
    values = [difference["mean"], difference["low"], difference["high"], *difference["per_seed"]]
    known = [abs(value) for value in values if value is not None and np.isfinite(value)]
    return max(known, default=0.0)


def _edge(extents: list[float], metric: str) -> float:
    """Half the width of the frame: the largest extent that is not a runaway's."""
    middle = sorted(extents)[(len(extents) - 1) // 2]
    limit = max(5 * middle, ORDINARY.get(metric, 0.0))
    ordinary = [extent for extent in extents if extent <= limit] or extents
    return 1.12 * max(ordinary) or 1.0
