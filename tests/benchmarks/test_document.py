"""The figures in the docs are those that were measured."""

import json
import shutil

import pytest

from benchmarks import document
from benchmarks._compute_section import section, with_section
from benchmarks.harness import RESULTS


def test_the_page_shows_the_recorded_results_unchanged():
    assert document.PAGE.read_text("utf-8") == document.render(), (
        "docs/benchmarks.md is not what the results say: run python -m benchmarks.document"
    )


def test_the_page_on_compute_shows_them_too():
    page = document.COMPUTE.read_text("utf-8")
    assert page == with_section(page, RESULTS), (
        "docs/compute.md is not what the results say: run python -m benchmarks.document"
    )


def test_what_is_not_recorded_is_said_and_what_is_missed_too(tmp_path):
    assert "Not recorded yet" in section(tmp_path)
    assert "|" not in section(tmp_path)
    row = {"case": "a step", "ours": 2.0, "peer": 3.0, "ratio": 1.5, "bar": 2.0, "unit": "s",
           "held": False, "note": ""}  # fmt: skip
    result = {"date": "2026-01-02T03:04", "processor": "P", "rows": [row, row | {"ratio": None}]}
    (tmp_path / "head.json").write_text(json.dumps(result), encoding="utf-8")
    text = section(tmp_path)
    assert "| head | a step | 2 against 3 s | 1.50 | 2, not reached |" in text
    assert text.count("a step") == 1
    assert "P, one thread, 2026-01-02; files: `head.json`." in text
    other = {**result, "rows": [row, row | {"case": "peak memory of a step, S=8"}]}
    (tmp_path / "memory.json").write_text(json.dumps(other), encoding="utf-8")
    assert section(tmp_path).count("head, memory") == 1
    with pytest.raises(ValueError, match="lacks a line"):
        with_section("a page without marks", tmp_path)


def test_another_figure_gives_another_page(tmp_path):
    for path in RESULTS.glob("*.json"):
        shutil.copy(path, tmp_path)
    path = tmp_path / "startup.json"
    result = json.loads(path.read_text("utf-8"))
    result["rows"][0]["ours"] = 1.2345
    path.write_text(json.dumps(result), encoding="utf-8")
    assert "1.234 s" in document.render(tmp_path)
    assert document.render(tmp_path) != document.render()
