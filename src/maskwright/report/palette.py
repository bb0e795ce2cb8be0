"""Colours, dashes and markers: what a policy looks like in every figure of the page.

The hues are those of Okabe and Ito (2008), which stay apart for colour-blind readers; dash and
marker repeat the distinction for those who see no colour at all. A figure is drawn in
the original hues, and ``svg.py`` then turns each into the CSS variable named here, so that one
drawing serves the light and the dark page, each with the contrast it needs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

INK = "#1c2024"
MUTED = "#5c6570"
RULE = "#d9dde2"
PAPER = "#fdfdfc"
# The box behind a label, so that a line that passes there does not strike it through.
BEHIND = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 1.0}

VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    PAPER: "--paper",
    "#0072b2": "--series-1",
    "#d55e00": "--series-2",
    "#009e73": "--series-3",
    "#cc79a7": "--series-4",
    "#e69f00": "--series-5",
    "#56b4e9": "--series-6",
}
SERIES = [hue for hue, variable in VARIABLES.items() if variable.startswith("--series")]

# Lengths of dash and gap in units of the line's width; an empty pattern is a solid line.
DASHES = [(), (4, 1.5), (4, 1.3, 1, 1.3), (1.2, 1.2), (7, 1.5)]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]


@dataclass(frozen=True)
class SeriesStyle:
    """How one policy is drawn: a hue, a dash pattern and a marker."""

    colour: str
    dashes: tuple[float, ...]
    marker: str

    @property
    def linestyle(self) -> Any:
        """The dash pattern in matplotlib's form."""
        return (0, self.dashes) if self.dashes else "-"

    @property
    def mean_line(self) -> dict[str, Any]:
        """What matplotlib needs to draw a mean: the bold line, its markers edged in paper."""
        return {
            "color": self.colour,
            "linestyle": self.linestyle,
            "linewidth": 1.7,
            "marker": self.marker,
            "markersize": 4.6,
            "markeredgecolor": PAPER,
            "markeredgewidth": 0.6,
        }


def series_styles(regimes: Iterable[Mapping[str, Any]]) -> dict[str, SeriesStyle]:
    """One style per policy name, the same in every regime, in order of first appearance.

    The start that all policies share comes last; it is a row of the tasks only.

    The three lists have lengths 6, 5 and 7, so no combination repeats before the 210th policy.
    """
    regimes = list(regimes)
    judged = [*regimes, *(task for regime in regimes for task in regime.get("tasks", []))]
    names = dict.fromkeys(policy["name"] for of in judged for policy in of["policies"])
    return {
        name: SeriesStyle(
            SERIES[index % len(SERIES)],
            DASHES[index % len(DASHES)],
            MARKERS[index % len(MARKERS)],
        )
        for index, name in enumerate(names)
    }
