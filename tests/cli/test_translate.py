"""Translation as a user meets it: what the commands print, write, and end with."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest
import yaml

from maskwright.lab.translate import compare as room
from tests.lab.translate import toy
from tests.lab.translate.conftest import run_here


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(room, "run_all", run_here)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return toy.write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.tsv", toy.pairs(80))


@pytest.fixture
def file(pairs, tmp_path, monkeypatch):
    """A tiny experiment."""
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "t.yaml"
    path.write_text(yaml.safe_dump(toy.settings(pairs)), "utf-8")
    return path


def test_train_then_generate(command, file, tmp_path, monkeypatch):
    out = tmp_path / "m"
    ended = command("train", file, "--task", "translate", "--steps", 3, "--out", out)
    assert (ended.status, "BLEU" in ended.out, "exposure" in ended.out) == (0, True, True)
    assert "step      3  held-out loss" in ended.err
    assert (
        command("train", file, "--task", "translate", "--steps", 3, "--out", out).out == ended.out
    )

    spoken = command("generate", out, "the cat", "", "a dog")
    assert spoken.status == 0
    lines = spoken.out.splitlines()
    assert (len(lines), lines[1]) == (3, "")
    assert "Text 2 is empty" in spoken.err

    (tmp_path / "in.txt").write_text("the cat\n\na dog\n", "utf-8")
    asked = command("generate", out, "--file", tmp_path / "in.txt", "--out", tmp_path / "o.txt")
    assert asked.status == 0
    assert (tmp_path / "o.txt").read_text("utf-8").splitlines() == lines
    assert "Line 2 is empty" in asked.err

    stdin = SimpleNamespace(buffer=io.BytesIO(b"the cat\n\na dog\n"), isatty=lambda: False)
    monkeypatch.setattr(sys, "stdin", stdin)
    assert command("generate", out).out.splitlines() == lines

    waiting = command("generate", out, "--simultaneous", 2, "the cat sees a bird")
    assert (waiting.status, "source tokens behind" in waiting.err) == (0, True)

    (tmp_path / "latin.txt").write_bytes("el gato\nniño\n".encode("latin-1"))
    wrong = command("generate", out, "--file", tmp_path / "latin.txt")
    assert (wrong.status, "not text in UTF-8 (line 2)" in wrong.err) == (2, True)


def test_compare_from_end_to_end(command, here, file, tmp_path):
    out = tmp_path / "out"
    ended = command(
        "compare", file, "--task", "translate", "--decoder-masks", "none,random",
        "--cross-masks", "none,padding", "--out", out,
    )  # fmt: skip
    assert ended.status == 0
    assert "Paired differences from no mask" in ended.out
    assert "one seed: no verdict is possible" in " ".join(ended.out.split())
    assert "<html" in (out / "report.html").read_text("utf-8")
    assert sorted(path.name for path in (out / "runs").iterdir()) == ["none", "padding", "random"]


def test_options_of_the_other_task_are_refused(command, file, tmp_path):
    for words, told in (
        (
            ("train", "--task", "translate", "--policy", "static"),
            "--policy goes with --task masked",
        ),
        (("train", "--minutes", 3), "--minutes goes with --task translate"),
        (("compare", "--cross-masks", "none"), "--cross-masks goes with --task translate"),
        (
            ("compare", "--task", "translate", "--policies", "x"),
            "--policies goes with --task masked",
        ),
    ):
        ended = command(*words)
        assert (ended.status, told in ended.err) == (2, True), ended.err


def test_a_bad_line_is_reported_and_skipped_only_if_asked(command, tmp_path, monkeypatch):
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "cache"))
    source = toy.write_pairs(tmp_path / "p.tsv", toy.pairs(80))
    lines = source.read_text("utf-8").splitlines()
    lines.insert(7, "only one side\t")
    source.write_text("\n".join(lines) + "\n", "utf-8")
    path = tmp_path / "t.yaml"
    path.write_text(yaml.safe_dump(toy.settings(source)), "utf-8")
    words = ("train", path, "--task", "translate", "--steps", 1, "--out", tmp_path / "m")
    ended = command(*words)
    assert (ended.status, "line 8" in ended.err) == (2, True), ended.err
    skipped = command(*words, "--set", "data.skip_bad=true")
    assert skipped.status == 0
    assert "line 8" in skipped.err
