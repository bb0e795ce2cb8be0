"""`maskwright bench` as a user meets it, with a model that takes no time."""

from __future__ import annotations

import json

from tests.lab.bench import tiny


def test_a_model_is_measured_and_saved(command, tmp_path):
    folder = tiny.folder_of("bert", tmp_path / "small")
    out = tmp_path / "out"
    ended = command(
        "bench", "--model", folder, "--length", 32, "--rate", 0.3, "--quick", "--out", out,
        width=140,
    )  # fmt: skip
    assert ended.status == 0, ended.err
    assert "small (bert), S=32" in ended.out
    assert "× packed" in ended.out
    assert [line.split()[2:4] for line in ended.err.splitlines()] == [
        ["1/1", "reading"],
        ["1/1", "small"],
        ["1/1", "small"],
    ]
    saved = json.loads((out / "bench.json").read_text("utf-8"))
    assert saved["command"].startswith("maskwright bench --model ")
    assert saved["quick"] is True
    (case,) = saved["cases"]
    assert case["case"] == "small (bert), S=32"
    assert "small (bert), S=32" in (out / "bench.txt").read_text("utf-8")


def test_bad_input_is_one_line(command, tmp_path):
    for arguments, message in (
        (["--model", tmp_path / "none"], "is not the folder of a model"),
        (["--length", 3], "--length 3"),
        (["--rate", 2], "--rate 2.0"),
    ):
        ended = command("bench", *arguments, "--out", tmp_path / "out")
        assert ended.status == 2
        assert message in " ".join(ended.err.split())
    assert not (tmp_path / "out").exists()
