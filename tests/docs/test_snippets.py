"""What the README and the docs show, runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import snippets

ROOT = Path(__file__).parents[2]
PAGES = [
    page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))) if page.exists()
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_the_page_shows_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = snippets.extract(page)
    left_out = snippets.run(found, tmp_path)
    if found and len(left_out) == len(found):
        pytest.skip("; ".join(left_out))
