"""From a matplotlib figure to an SVG element that belongs in an HTML page.

What matplotlib writes is a file of its own: fixed colours, fixed size, a style sheet that would
leak into the page, ids that clash with the next figure's. Here that file is parsed and rewritten:
theme variables for colours, the page's font, a width that follows the column, ids with the
figure's own prefix, and a text for those who cannot see it. The same figure always gives the same
bytes.
"""

import io
import re
import warnings
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from maskwright.report.palette import INK, MUTED, RULE, VARIABLES

SETTINGS: dict[Any, Any] = {  # Any: matplotlib types its keys one by one
    "svg.fonttype": "none",  # text stays text: selectable, searchable, in the page's font
    "text.parse_math": False,  # a policy name may hold a dollar sign
    "axes.unicode_minus": True,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so the layout is the same everywhere
    "font.size": 8.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
}

_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_FONT = re.compile(r"font: ([\d.]+px)[^;]*")
_COLOUR = re.compile(r"#[0-9a-f]{6}")


def render(draw: Callable[[Figure], None], size: tuple[float, float], name: str, alt: str) -> str:
    """Draw on a new figure and return it as one ``<svg>`` element.

    Parameters
    ----------
    draw
        Fills the figure it is given. It runs under the house settings.
    size
        Width and height in inches; on the page only their ratio and the text's size against them
        count, because the element takes its column's width.
    name
        Prefix of every id inside, unique on the page.
    alt
        What the figure shows, in words. Empty marks it as decoration.
    """
    # The defaults first, so that a user's matplotlibrc does not reach into the report.
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        matplotlib.rcParams["svg.hashsalt"] = name
        # A name in a script DejaVu lacks is still written as text, in the reader's own font.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        file = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    return _for_page(ElementTree.fromstring(file.getvalue()), name, alt)


def _for_page(root: ElementTree.Element, name: str, alt: str) -> str:
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}style", "}metadata")):
                parent.remove(child)
    referenced = {target for element in root.iter() for target in _targets(element)}
    for element in root.iter():
        # HTML knows <svg> by itself: without namespaces no address is left in the file.
        element.tag = element.tag.rpartition("}")[2]
        attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        element.attrib.clear()
        for key, value in attributes.items():
            if key == "id":
                if value in referenced:
                    element.set("id", f"{name}-{value}")
            elif key == "href":
                element.set("href", f"#{name}-{value[1:]}")
            else:
                element.set(key, _themed(value, name))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    if alt:
        root.set("role", "img")
        root.set("aria-label", alt)
    else:
        root.set("aria-hidden", "true")
    return ElementTree.tostring(root, encoding="unicode")


def _targets(element: ElementTree.Element) -> list[str]:
    found = []
    for key, value in element.attrib.items():
        if key.endswith("href"):
            found.append(value[1:])
        found.extend(_REFERENCE.findall(value))
    return found


def _themed(value: str, name: str) -> str:
    value = _REFERENCE.sub(rf"url(#{name}-\1)", value)
    value = _FONT.sub(r"font: \1 var(--sans)", value)
    return _COLOUR.sub(lambda match: _variable(match.group()), value)


def _variable(colour: str) -> str:
    return f"var({VARIABLES[colour]})" if colour in VARIABLES else colour
