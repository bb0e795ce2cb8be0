"""The figures in the docs are those that were measured."""

import json
import shutil

from benchmarks import document
from benchmarks.harness import RESULTS


def test_the_page_shows_the_recorded_results_unchanged():
    assert document.PAGE.read_text("utf-8") == document.render(), (
        "docs/benchmarks.md is not what the results say: run python -m benchmarks.document"
    )


def test_another_figure_gives_another_page(tmp_path):
    for path in RESULTS.glob("*.json"):
        shutil.copy(path, tmp_path)
    path = tmp_path / "startup.json"
    result = json.loads(path.read_text("utf-8"))
    result["rows"][0]["ours"] = 1.2345
    path.write_text(json.dumps(result), encoding="utf-8")
    assert "1.234 s" in document.render(tmp_path)
    assert document.render(tmp_path) != document.render()
