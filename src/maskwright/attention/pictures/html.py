"""An explanation as HTML: one element for a notebook, or one page, with nothing to load."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskwright.attention.pictures.explanation import Explanation

_TABLE = "border-collapse:collapse;margin:.75rem 0;text-align:left;max-width:46rem"
_FACT = "padding:.2rem 0;vertical-align:top;text-align:left"
_LABEL = f"{_FACT};padding-right:1.25rem;white-space:nowrap;font-weight:600"
_PAGE = """\
:root{color-scheme:light dark;--paper:#fdfdfc;--ink:#1c2024;--rule:#d9dde2}
@media(prefers-color-scheme:dark){:root{--paper:#15181b;--ink:#e6e8ea;--rule:#343a40}}
body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:56rem;margin:0 auto;padding:2rem 1.25rem}
tr+tr>*{border-top:1px solid var(--rule)}"""


def element(explanation: Explanation) -> str:
    """One ``<div>`` that takes colour and font of the page around it."""
    rows = "".join(
        f'<tr><th scope="row" style="{_LABEL}">{escape(name)}</th>'
        f'<td style="{_FACT}">{escape(fact)}</td></tr>'
        for name, fact in explanation.facts
    )
    return (
        f'<div style="overflow-x:auto">{explanation.svg(standalone=False)}'
        f'<table style="{_TABLE}"><tbody>{rows}</tbody></table></div>'
    )


def page(explanation: Explanation) -> str:
    """A whole document, light or dark as its reader likes it."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(explanation.source)}</title><style>{_PAGE}</style></head>\n"
        f"<body><main>{element(explanation)}</main></body></html>\n"
    )
