import os
import re
from html.parser import HTMLParser

import pytest

from maskwright.errors import ResultsError, SaveError
from maskwright.report import write_report
from maskwright.report.html import render_page

EVIL = "<script>alert('x')</script>&\"$\\frac$"


class Page(HTMLParser):
    """Tables as lists of rows of text, every start tag, every id, and the running text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.inside_style = False
        self.cell: str | None = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside_style = tag == "style"
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.cell = ""

    def handle_endtag(self, tag):
        self.inside_style = False
        if tag in ("th", "td"):
            self.tables[-1][-1].append(" ".join((self.cell or "").split()))
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data
        if not self.inside_style:
            self.text += data

    def attribute(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]


@pytest.fixture
def page(results) -> Page:
    return Page(render_page(results))


def test_every_table_is_there_once_per_regime(page):
    headers = [table[0] for table in page.tables]
    assert headers[0] == ["policy", "Text seen once", "A small text, seen many times"]
    assert [header[-1] for header in headers[1:]] == [
        "loss against unigram",
        "verdict",
        "tokens per second",
    ] * 2


def test_summary_numbers_stand_in_their_policys_row(page, results):
    for regime, table in zip(results["regimes"], (page.tables[1], page.tables[4]), strict=True):
        for policy, row in zip(regime["policies"], table[1:], strict=True):
            loss, perplexity, accuracy = (
                policy["summary"][key] for key in ("loss", "perplexity", "accuracy")
            )
            against = loss["mean"] - results["unigram"]["loss"]
            assert row == [
                policy["name"],
                f"{loss['mean']:.3f} [{loss['low']:.3f}, {loss['high']:.3f}]",
                f"{perplexity['mean']:.1f} [{perplexity['low']:.1f}, {perplexity['high']:.1f}]",
                f"{100 * accuracy['mean']:.2f}% "
                f"[{100 * accuracy['low']:.2f}%, {100 * accuracy['high']:.2f}%]",
                f"{against:+.3f}".replace("-", "−"),
            ]


def test_differences_and_costs_stand_in_their_rows(page, results):
    regime = results["regimes"][1]
    static = regime["differences"][0]
    assert static["policy"] == "static"
    row = page.tables[5][1]
    assert row[:3] == ["static", "dynamic", "held-out loss"]
    assert row[3].startswith(f"+{static['mean']:.3f} [+{static['low']:.3f}, ")
    assert row[4] == ", ".join(f"+{value:.3f}" for value in static["per_seed"])
    assert row[5] == "worse"
    cost = regime["policies"][3]["cost"]
    assert page.tables[6][4] == [
        "rate-40",
        "1 min 27 s",
        f"{cost['tokens']:,.0f}",
        f"{cost['predicted_tokens']:,.0f}",
        f"{cost['tokens_per_second']:,.0f}",
    ]


def test_glance_shows_the_verdict_of_each_regime(page):
    cells = {row[0]: [cell.partition(" ")[2] for cell in row[1:]] for row in page.tables[0][1:]}
    assert cells == {
        "dynamic": ["reference", "reference"],
        "static": ["no difference", "worse"],
        "rotating": ["no difference", "worse"],
        "rate-40": ["better", "better"],
    }


def test_verdicts_facts_and_configuration_are_on_the_page(page, results):
    for text in (
        results["verdict"],
        results["regimes"][0]["verdict"],
        results["regimes"][1]["explanation"],
        "0.61 M parameters",
        "5 min 41 s",
        "3 (0, 1, 2)",
        "9f3c51d2a07be844",
        "400 steps under “dynamic”",
        "maskwright compare --preset quick",
        "transformers 5.23.0",
        "learning_rate: 0.003",
        "resume: null",
    ):
        assert text in page.text


def test_the_page_needs_nothing_from_outside(results):
    text = render_page(results)
    for trace in ("http://", "https://", "//", "src=", "<script", "<link", "@import", "<a "):
        assert trace not in text.replace("</", "<"), trace
    # The only references are to ids inside the page.
    assert all(target.startswith("#") for target in re.findall(r"""href="([^"]*)""", text))
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))


def test_ids_are_unique_and_every_reference_resolves(results):
    page = Page(text := render_page(results))
    ids = page.attribute("id")
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r"url\(#([^)]*)\)", text)) | set(re.findall(r'href="#([^"]*)"', text))
    assert wanted <= set(ids)
    assert wanted


def test_every_figure_has_words_for_those_who_cannot_see_it(page):
    figures = [attrs for tag, attrs in page.tags if tag == "svg"]
    spoken = [attrs["aria-label"] or "" for attrs in figures if attrs.get("role") == "img"]
    assert len(spoken) == 8  # two curves and two forests in each of two regimes
    assert all("static" in text for text in spoken)
    assert all(attrs.get("aria-hidden") for attrs in figures if attrs.get("role") != "img")


def test_every_theme_variable_that_is_used_is_defined_for_both_themes(results):
    text = render_page(results)
    light, _, dark = text.partition("prefers-color-scheme: dark")
    for variable in set(re.findall(r"var\((--[a-z0-9-]+)\)", text)):
        assert f"{variable}:" in light
        assert f"{variable}:" in dark or variable in ("--sans", "--serif", "--mono")


def test_no_fixed_colour_is_left_in_a_figure(results):
    for figure in re.findall(r"<svg.*?</svg>", render_page(results), re.S):
        colours = re.findall(r"(?:fill|stroke): (#[0-9a-f]+)", figure)
        assert not colours


def test_user_text_is_escaped_everywhere(results):
    regime = results["regimes"][0]
    regime["policies"][1]["name"] = EVIL
    regime["policies"][1]["description"] = EVIL
    regime["differences"][0]["policy"] = EVIL
    regime["reference"] = EVIL
    regime["title"] = regime["explanation"] = regime["verdict"] = EVIL
    results["examples"][0]["policy"] = EVIL
    results["examples"][0]["epochs"][0]["tokens"][0] |= {"text": EVIL, "original": EVIL}
    results["command"] = results["verdict"] = results["data"]["name"] = EVIL
    results["experiment"]["note"] = EVIL
    text = render_page(results)
    assert "<script" not in text
    assert EVIL in Page(text).text


def test_names_in_any_script_and_of_any_length_are_drawn(results):
    for name in ("静的マスク", "a very long name " * 5, "$\\unknown{macro}$", ""):
        results["regimes"][0]["policies"][1]["name"] = name
        results["regimes"][0]["differences"][0]["policy"] = name
        results["regimes"][0]["differences"][3]["policy"] = name
        assert render_page(results)


def test_identical_results_give_identical_bytes(results, tmp_path):
    first = write_report(results, tmp_path / "first.html").read_bytes()
    assert write_report(results, tmp_path / "second.html").read_bytes() == first
    results["regimes"][0]["policies"][0]["runs"][0]["history"][3]["loss"] += 0.01
    assert write_report(results, tmp_path / "third.html").read_bytes() != first


def test_the_users_matplotlib_settings_are_neither_used_nor_changed(results):
    import matplotlib

    expected = render_page(results)
    with matplotlib.rc_context({"font.size": 20, "svg.fonttype": "path", "axes.grid": False}):
        assert render_page(results) == expected
        assert matplotlib.rcParams["font.size"] == 20


def test_a_missing_folder_is_made_and_only_the_page_is_in_it(results, tmp_path):
    path = write_report(results, tmp_path / "new" / "report.html")
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_an_old_report_survives_a_failed_rename(results, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("the old one")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(SaveError, match="Permission denied"):
        write_report(results, path)
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_fills_up_leaves_no_draft(results, tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SaveError, match="No space left"):
        write_report(results, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_a_folder_is_a_clear_error(results, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="choose another folder"):
        write_report(results, tmp_path / "file" / "report.html")


def test_a_failed_rendering_writes_nothing(results, tmp_path):
    del results["regimes"][1]["policies"][2]["summary"]
    with pytest.raises(ResultsError, match=r"summary.*maskwright compare"):
        write_report(results, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("field", ["verdict", "command", "versions", "evaluation", "warmup"])
def test_a_missing_field_is_named(results, field):
    del results[field]
    with pytest.raises(ResultsError, match=field):
        render_page(results)


@pytest.mark.parametrize("found", [None, "maskwright.results/2"])
def test_another_format_is_refused_with_the_remedy(results, found):
    results["format"] = found
    with pytest.raises(ResultsError, match=r"maskwright\.results/1.*Run the comparison again"):
        render_page(results)
    del results["format"], results["versions"]
    with pytest.raises(ResultsError, match="unknown"):
        render_page(results)


def test_one_seed_has_no_intervals_and_says_so(results):
    for regime in results["regimes"]:
        for policy in regime["policies"]:
            policy["runs"] = policy["runs"][:1]
            for estimate in policy["summary"].values():
                estimate["low"] = estimate["high"] = None
        for difference in regime["differences"]:
            difference["per_seed"] = difference["per_seed"][:1]
            difference["low"] = difference["high"] = None
    page = Page(render_page(results))
    assert page.tables[1][1][1].endswith(" [—]")
    assert page.tables[2][1][3].endswith(" [—]")
    assert "1 (0)" in page.text


def test_a_single_policy_without_comparison_or_examples_is_a_page(results):
    results["regimes"] = results["regimes"][:1]
    results["regimes"][0]["policies"] = results["regimes"][0]["policies"][:1]
    results["regimes"][0]["differences"] = []
    results["examples"] = []
    results["warmup"] = None
    page = Page(render_page(results))
    assert "Paired differences" not in page.text
    assert "The same sentence" not in page.text
    assert "from scratch" in page.text


def test_a_run_that_diverged_is_shown_as_such(results):
    policy = results["regimes"][1]["policies"][1]
    for run in policy["runs"]:
        run["history"][-1]["loss"] = float("nan")
        run["history"][-2]["loss"] = None
    policy["summary"]["loss"] = {"mean": float("nan"), "low": None, "high": None}
    results["regimes"][1]["differences"][0] |= {"mean": float("nan"), "low": None, "high": None}
    assert Page(render_page(results)).tables[4][2][1] == "not a number [—]"
