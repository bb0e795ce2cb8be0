"""The command that draws attention patterns."""

from __future__ import annotations

import pytest
import torch

from maskwright.attention.names import NAMES
from maskwright.cli.attention import axes
from maskwright.errors import AxisError, ConfigError

SOURCE = "causal & (window(256) | global_tokens(0))"


def words(text: str) -> str:
    return " ".join(text.split())


def test_it_draws_and_prints_the_plan(command):
    ended = command("explain", SOURCE, "--length", 4096)
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0] == SOURCE
    assert lines[2].split() == [
        "0", "512", "1,024", "1,536", "2,048", "2,560", "3,072", "3,584", "kv"
    ]  # fmt: skip
    assert lines[3].strip().startswith("q 0 ▒▒· ·")
    told = words(ended.out)
    assert "4,096 queries × 4,096 keys; 1 head of 64, float32 on cpu" in told
    assert "6.1 % of the pairs may attend" in told.replace("\u00a0", " ")
    assert "empty rows none" in told


def test_documents_padding_cross_attention_and_columns(command):
    ended = command("explain", "causal & documents", "--documents", "3,2")
    assert "5 queries × 5 keys" in ended.out
    assert "  3 · · · ■ ·" in ended.out
    ended = command("explain", "padding", "--lengths", "2,4")
    assert "sample 0" in ended.out
    assert "sample 1" in ended.out
    ended = command("explain", "wait_k(3)", "--length", 4, "--kv-length", 6)
    assert "q 0 ■ ■ ■ · · ·" in ended.out
    ended = command(
        "explain", 'prefix("prompt")', "--length", 4, "--column", "prompt=true*2,false*2"
    )
    assert "q 0 ■ ■ · ·" in ended.out


def test_what_is_chosen_for_other_tensors(command):
    ended = command(
        "explain", "causal", "--length", 64, "--heads", 12, "--dim", 32, "--dtype", "bfloat16",
        "--backend", "dense", "--size", 16, width=160,
    )  # fmt: skip
    assert "12 heads of 32, bfloat16 on cpu" in ended.out
    assert "dense: asked for by name" in words(ended.out)
    assert "blocks of 16 × 16" in ended.out


def test_it_writes_files(command, tmp_path):
    ended = command(
        "explain", "window(2)", "--length", 8, "--out", tmp_path / "a.svg",
        "--out", tmp_path / "a.png", "--out", tmp_path / "a.html",
    )  # fmt: skip
    assert ended.status == 0
    assert ended.err.count("Written: ") == 3
    assert (tmp_path / "a.svg").read_text("utf-8").startswith("<svg")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "window(2)" in (tmp_path / "a.html").read_text("utf-8")


def test_the_list_has_every_pattern(command):
    ended = command("explain", "--list", width=160)
    assert ended.status == 0
    first = [line.split("(")[0].split()[0] for line in ended.out.splitlines() if line[:1] != " "]
    assert set(NAMES) <= set(first)
    assert "A query may attend to keys at its own position and before." in words(ended.out)


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (["causl & window(4)"], ["Unknown pattern 'causl'. Did you mean 'causal'?", "  ^^^^^"]),
        (["causal and window(4)"], ["`and` does not combine patterns: write &."]),
        (["window(-1)"], ["left=-1 of window", "^^^"]),
        (["documents"], ["asks for segments", "--documents, --lengths or --column"]),
        (["causal", "--backend", "dence"], ["Did you mean 'dense'"]),
        (["causal", "--dtype", "float31"], ["Unknown dtype 'float31'. Did you mean"]),
        (["causal", "--device", "cdua"], ["torch knows no such device"]),
        (["causal", "--out", "a.gif"], ["ending '.gif'"]),
        (["causal", "--out", "/dev/null/a.svg"], ["cannot be written"]),
        (["causal", "--documents", "3,x"], ["--documents 3,x", "whole numbers with commas"]),
        (["causal", "--column", "order=1,true"], ["do not mix"]),
        (["causal", "--column", "order"], ["'' is no value"]),
    ],
)
def test_what_cannot_be_explained(command, arguments, parts):
    ended = command("explain", *arguments)
    assert ended.status == 2
    assert ended.err.startswith("maskwright: ")
    assert "Traceback" not in ended.err
    for part in parts:
        assert part in ended.err


def test_without_a_pattern(command):
    ended = command("explain")
    assert (ended.status, ended.out) == (2, "")
    assert "--list shows them" in words(ended.err)


# ------------------------------------------------------------------------------- options


def test_self_attention_has_one_axis():
    q, kv = axes(length=5)
    assert q is kv
    assert (q.length, q.plain) == (5, True)
    assert axes()[0].length == 64
    assert axes(documents="3,2")[0].columns["segments"].tolist() == [0, 0, 0, 1, 1]


def test_two_axes_where_they_differ():
    q, kv = axes(length=2, kv_length=3)
    assert (q.length, kv.length) == (2, 3)
    q, kv = axes(length=3, columns=["order=2,0,1", "kv.copy=true,false*2", "q.gap=-1*3"])
    assert list(q.columns) == ["order", "gap"]
    assert list(kv.columns) == ["order", "copy"]
    assert q.columns["gap"].tolist() == [-1, -1, -1]
    assert kv.columns["copy"].dtype == torch.bool


def test_a_padded_batch():
    q, kv = axes(lengths="1,3")
    assert q is kv
    assert q.columns["valid"].tolist() == [[True, False, False], [True] * 3]
    assert axes(lengths="1,3", length=5)[0].length == 5


@pytest.mark.parametrize(
    "options, error, part",
    [
        ({"length": 4, "documents": "3,2"}, ConfigError, "make 5 tokens, --length is 4"),
        ({"length": 2, "lengths": "3"}, ConfigError, "the axis has 2 tokens"),
        ({"lengths": "3", "kv_length": 2}, ConfigError, "kv.valid"),
        ({"columns": ["a.b=1"]}, ConfigError, "of `q.`, of `kv.`, or of both"),
        ({"length": 3, "columns": ["order=1,2"]}, AxisError, "has shape"),
    ],
)
def test_options_that_contradict_each_other(options, error, part):
    with pytest.raises(error, match=part):
        axes(**options)
