"""Learning curves, and the swatches of their legend.

Each figure is one ``<svg>`` element about half a page wide, so that two stand side by side on a
desk and one fills a phone, with text that can be read on both.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from maskwright.report import formatting, svg
from maskwright.report.palette import BEHIND, INK, SeriesStyle

Styles = Mapping[str, SeriesStyle]
Curves = tuple[np.ndarray, np.ndarray]  # steps [points], losses [seeds, points]
Span = tuple[float, float]

# A policy that ends further than this above the best one leaves the close-up, in nats: it would
# flatten all the others, and its failure needs no magnifying glass.
CLOSE_ENOUGH = 0.25

# Means that stay within this share of the frame's height of each other lie on one another.
_COVERED = 0.01
_WIDER = 2.6


def learning_curves(
    regime: Mapping[str, Any], unigram_loss: float, styles: Styles, name: str, *, close_up: bool
) -> str:
    """Held-out loss (nats) against step; bold lines are means over seeds, thin ones single seeds.

    The whole run shows everything up to twice the unigram baseline. The close-up shows the second
    half of the training and the losses near the best policy. A policy whose line ends above the
    frame is named at the top with its final value, so nothing goes missing.
    """
    curves = {policy["name"]: _curves(policy) for policy in regime["policies"]}

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        window = _close_window(curves) if close_up else _whole_window(curves, unigram_loss)
        (left, right), (low, high) = window
        for policy, (steps, losses) in curves.items():
            above = _covered_by(policy, curves, _COVERED * (high - low))
            _draw_policy(axes, steps, losses, styles[policy], above)
        axes.set_xlim(left, right)
        axes.set_ylim(low, high)
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("training step")
        axes.set_ylabel("held-out loss (nats)")
        if low <= unigram_loss <= high:
            _draw_baseline(axes, unigram_loss)
        _name_runaways(axes, curves, high)
        if regime["steps"] and regime["epochs"]:
            _add_epochs(axes, regime["epochs"] / regime["steps"])

    finals = "; ".join(f"{name} {formatting.loss(_final(c))}" for name, c in curves.items())
    part = "the second half of training, close up" if close_up else "the whole run"
    alt = (
        f"Line chart of held-out loss against training step, {part}. Mean final loss: {finals}. "
        f"Unigram baseline: {formatting.loss(unigram_loss)}."
    )
    return svg.render(draw, (4.2, 3.3), name, alt)


def swatch(style: SeriesStyle, name: str) -> str:
    """The line and marker of one policy, for the legend."""

    def draw(figure: Figure) -> None:
        figure.set_layout_engine("none")
        line = Line2D([0.05, 0.5, 0.95], [0.5, 0.5, 0.5], markevery=[1], **style.mean_line)
        figure.add_artist(line)

    return svg.render(draw, (0.56, 0.16), name, "")


def _curves(policy: Mapping[str, Any]) -> Curves:
    """Steps ``[points]`` and losses ``[seeds, points]``; NaN where a seed has no value there."""
    runs = [
        {point["step"]: point["loss"] for point in run["history"] if point["loss"] is not None}
        for run in policy["runs"]
    ]
    steps = sorted(set().union(*runs))
    table = [[run.get(step, np.nan) for step in steps] for run in runs]
    losses = np.array(table, dtype=float).reshape(len(runs), len(steps))
    return np.array(steps, dtype=float), np.where(np.isfinite(losses), losses, np.nan)


def _mean(losses: np.ndarray) -> np.ndarray:
    """Mean over seeds ``[points]``, NaN unless every seed has a value: no seed drops out unseen."""
    return losses.mean(axis=0) if len(losses) else np.full(losses.shape[1], np.nan)


def _final(curves: Curves) -> float:
    means = _mean(curves[1])
    return float(means[-1]) if len(means) else float("nan")


def _covered_by(name: str, curves: Mapping[str, Curves], least: float) -> int:
    """How many of the policies drawn later have a mean that lies on this one's."""
    steps, losses = curves[name]
    later = list(curves)[list(curves).index(name) + 1 :]
    return sum(
        np.array_equal(curves[other][0], steps)
        and bool(np.all(np.abs(_mean(curves[other][1]) - _mean(losses)) <= least))
        for other in later
    )


def _draw_policy(
    axes: Axes, steps: np.ndarray, losses: np.ndarray, style: SeriesStyle, above: int
) -> None:
    """Bold, and under ``above`` others that would hide it so much wider, pale, behind them."""
    for run in losses:
        axes.plot(steps, run, color=style.colour, linewidth=0.6, alpha=0.45)
    line = style.mean_line
    if above:
        line |= {"linewidth": line["linewidth"] + _WIDER * above, "alpha": 0.45, "linestyle": "-"}
        line |= {"markersize": line["markersize"] + _WIDER * above, "markeredgewidth": 0.0}
    axes.plot(steps, _mean(losses), markevery=max(1, len(steps) // 8), **line)


def _draw_baseline(axes: Axes, loss: float) -> None:
    axes.axhline(loss, color=INK, linewidth=0.9, linestyle=(0, (5, 3)))
    axes.annotate(
        f"unigram baseline {formatting.loss(loss)}",
        (1, loss),
        xycoords=("axes fraction", "data"),
        xytext=(0, -3),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=8,
        bbox=BEHIND,
    )


def _name_runaways(axes: Axes, curves: Mapping[str, Curves], high: float) -> None:
    above = [(name, _final(c)) for name, c in curves.items() if _final(c) > high]
    for row, (name, final) in enumerate(above):
        axes.annotate(
            f"↑ {formatting.shortened(name, 24)} ends at {formatting.loss(final)}",
            (1, 1),
            xycoords="axes fraction",
            xytext=(0, -2 - 11 * row),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=8,
            bbox=BEHIND,
        )


def _add_epochs(axes: Axes, epochs_per_step: float) -> None:
    def to_epochs(steps: Any) -> Any:
        return steps * epochs_per_step

    def to_steps(epochs: Any) -> Any:
        return epochs / epochs_per_step

    top = axes.secondary_xaxis("top", functions=(to_epochs, to_steps))
    top.xaxis.set_major_locator(MaxNLocator(5))
    top.set_xlabel("epochs")
    top.spines["top"].set_visible(True)


def _whole_window(curves: Mapping[str, Curves], unigram_loss: float) -> tuple[Span, Span]:
    steps = np.concatenate([steps for steps, _ in curves.values()] or [np.zeros(1)])
    losses = np.concatenate([losses.ravel() for _, losses in curves.values()] + [[unigram_loss]])
    top = min(float(np.nanmax(losses)), 2 * unigram_loss)
    return _padded(float(steps.min(initial=0)), float(steps.max(initial=1)), 0.02), _padded(
        float(np.nanmin(losses)), top, 0.06
    )


def _close_window(curves: Mapping[str, Curves]) -> tuple[Span, Span]:
    last = max((float(steps[-1]) for steps, _ in curves.values() if len(steps)), default=1.0)
    late = {name: losses[:, steps >= last / 2] for name, (steps, losses) in curves.items()}
    late = {name: losses[np.isfinite(losses)] for name, losses in late.items()}
    finals = {name: _final(c) for name, c in curves.items() if np.isfinite(_final(c))}
    if not finals:
        return _padded(last / 2, last, 0.02), (0.0, 1.0)
    best = min(finals, key=lambda name: finals[name])
    limit = finals[best] + max(CLOSE_ENOUGH, 4 * float(np.ptp(late[best])))
    seen = np.concatenate([late[name] for name, final in finals.items() if final <= limit])
    return _padded(last / 2, last, 0.02), _padded(float(seen.min()), float(seen.max()), 0.08)


def _padded(low: float, high: float, share: float) -> tuple[float, float]:
    margin = share * (high - low) or 0.5
    return low - margin, high + margin
