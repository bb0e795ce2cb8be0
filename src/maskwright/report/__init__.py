"""The report room: results in, one self-contained web page out.

It reads the results file only and never a model, so a report can be made anywhere, any time
after the run, from ``results.json`` alone.
"""

from maskwright.report.html import write_report

__all__ = ["write_report"]
