"""A full disk, a damaged file: one clear error, nothing half-written, the rest kept."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from contextlib import contextmanager

import pytest

from maskwright.errors import ModelError, ResultsError, SaveError
from maskwright.lab import compare as room
from maskwright.lab.files import read_json, saving, write_folder, write_json
from maskwright.lab.run import RUN_FILE
from tests.lab import tiny


@contextmanager
def files_of_at_most(size):
    """The kernel cuts off every file at ``size`` bytes, also for libraries in Rust and C++."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# -- files ---------------------------------------------------------------------------------


def test_a_file_stands_until_the_next_is_whole(tmp_path, monkeypatch):
    path = write_json(tmp_path / "a.json", {"old": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(SaveError, match=r"a\.json cannot be written: No space left"):
            write_json(path, {"new": 2})
    assert read_json(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]
    assert read_json(write_json(path, {"new": 2})) == {"new": 2}


def test_a_folder_stands_until_the_next_is_whole(tmp_path):
    path = write_folder(tmp_path / "a", lambda folder: write_json(folder / "x.json", 1))

    def fill(folder):
        write_json(folder / "y.json", 2)
        no_space()

    with pytest.raises(SaveError, match="a cannot be written: No space left"):
        write_folder(path, fill)
    assert os.listdir(tmp_path) == ["a"]
    assert os.listdir(path) == ["x.json"]
    write_folder(path, lambda folder: write_json(folder / "y.json", 2))
    assert os.listdir(path) == ["y.json"]


def test_an_error_that_is_not_about_writing_stays_itself(tmp_path):
    for error in (RuntimeError("shapes differ"), KeyError("x"), SaveError("said before")):
        with pytest.raises(type(error)) as caught, saving(tmp_path):
            raise error
        assert caught.value is error


@pytest.mark.parametrize("what", ["safetensors", "tokenizers", "torch"])
def test_what_libraries_raise_on_a_full_disk(tmp_path, what):
    """They have exceptions of their own for it. The kernel makes the failure, not a mock."""
    import torch
    from safetensors.torch import save_file

    from tests.core.tokenizers import wordpiece

    large = torch.zeros(100_000)
    save = {
        "safetensors": lambda: save_file({"a": large}, tmp_path / "a"),
        "tokenizers": lambda: wordpiece().save_pretrained(tmp_path / "a"),
        "torch": lambda: torch.save(large, tmp_path / "a"),
    }[what]
    with (
        files_of_at_most(2000),
        pytest.raises(SaveError, match=r"out cannot be written: .*(too large|disk full)"),
        saving(tmp_path / "out"),
    ):
        save()


@pytest.mark.parametrize("content", ["", "{", '{"a": '])
def test_a_damaged_file_of_results(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ResultsError, match=r"is damaged .* Delete it"):
        read_json(tmp_path / "a.json")
    with pytest.raises(ResultsError, match="cannot be read: No such file"):
        read_json(tmp_path / "b.json")


# -- comparisons -----------------------------------------------------------------------------


def small(text):
    return tiny.experiment(text, seeds=[0], regimes=[{"name": "a", "tokens": 250, "steps": 2}])


def test_a_disk_that_fills_up_keeps_what_was_finished(text, tmp_path, here, monkeypatch):
    out = tmp_path / "out"
    from transformers import PreTrainedModel

    save, calls = PreTrainedModel.save_pretrained, []

    def full_at_the_third(self, folder, **settings):
        calls.append(folder)
        if len(calls) < 3:
            return save(self, folder, **settings)
        with files_of_at_most(20_000):
            return save(self, folder, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(PreTrainedModel, "save_pretrained", full_at_the_third)
        with pytest.raises(SaveError, match="Free some space and give the same command again"):
            room.compare(small(text), out)
    assert [path.parent.name for path in sorted(out.rglob(RUN_FILE))] == ["seed-0", "seed-0"]
    assert tiny.half_written(out) == []
    before = tiny.contents(out / "warmup")
    assert room.compare(small(text), out)["regimes"]
    assert tiny.contents(out / "warmup") == before


def test_results_stand_when_new_ones_cannot_be_written(text, tmp_path, here, monkeypatch):
    out = tmp_path / "out"
    room.compare(small(text), out)
    before = tiny.contents(out)["results.json"]
    replaced = os.replace

    def full(source, target):
        if str(target).endswith("results.json"):
            no_space()
        replaced(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SaveError, match=r"results\.json cannot be written: No space left"):
        room.compare(small(text), out)
    assert tiny.contents(out)["results.json"] == before
    assert tiny.half_written(out) == []


@pytest.mark.parametrize("damage", ["cut off", "other bytes", "no weights", "no configuration"])
def test_a_damaged_start_says_which_folder_to_delete(text, tmp_path, here, damage):
    out = tmp_path / "out"
    room.compare(small(text), out)
    weights = out / "warmup/seed-0/model.safetensors"
    run = out / "runs/a/dynamic/seed-0"
    for file in run.iterdir():
        file.unlink()
    kept = tiny.contents(out / "runs/a/static")
    if damage == "cut off":
        weights.write_bytes(weights.read_bytes()[:2000])
    elif damage == "other bytes":
        weights.write_bytes(b"\xff" * 3000)
    elif damage == "no weights":
        weights.unlink()
    else:
        (weights.parent / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"a/dynamic/seed-0 cannot start\. .*Delete that folder"):
        room.compare(small(text), out)
    assert tiny.contents(out / "runs/a/static") == kept
    assert not (run / RUN_FILE).exists()


def test_an_error_in_a_worker_names_the_run_and_keeps_the_others(text, tmp_path, capfd):
    """A real worker, which prints nothing of its own: no bars, no traceback."""
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "run_all", tiny.run_here)
        room.compare(small(text), out)
    (out / "warmup/seed-0/model.safetensors").write_bytes(b"\xff" * 3000)
    shutil.rmtree(out / "runs/a/dynamic")
    kept = tiny.contents(out / "runs/a/static")
    capfd.readouterr()
    with pytest.raises(ModelError, match="a/dynamic/seed-0 cannot start"):  # its own kind
        room.compare(small(text), out)
    assert tiny.contents(out / "runs/a/static") == kept
    assert capfd.readouterr() == ("", "")
