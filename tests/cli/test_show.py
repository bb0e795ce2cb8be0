import io

import pytest
from rich.console import Console

from maskwright.cli.show import print_results
from tests.report.conftest import make_results


def printed(width):
    console = Console(file=io.StringIO(), width=width)
    print_results(console, make_results())
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 100, 109])
def test_a_narrow_console_leaves_columns_out(width):
    text = printed(width)
    for name in ("against ", "each seed", "perplexity"):
        assert name not in text.replace("loss against unigram", "").replace("loss against", "")
    assert "verdict" in text


def test_a_wide_console_has_them_all():
    text = printed(140)
    for name in (" against ", "each seed", "perplexity", "verdict"):
        assert name in text


@pytest.mark.parametrize("width", [80, 100, 110, 140])
def test_lines_fit_and_intervals_are_whole(width):
    text = printed(width)
    assert max(map(len, text.splitlines())) <= width
    for line in text.splitlines():
        assert line.count("[") == line.count("]"), line


def test_nothing_is_cut_off_where_there_is_no_room():
    text = printed(44)
    assert max(map(len, text.splitlines())) <= 44
    assert "…" not in text


def test_the_verdict_comes_last():
    text = " ".join(printed(80).split())
    assert text.endswith(make_results()["verdict"])
