"""Sealed folders, and which checkpoints are taken and which deleted."""

from __future__ import annotations

import json
import logging
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright.errors import CacheError, ConfigError, SaveError
from maskwright.hf import latest_checkpoint
from maskwright.hf.recovery.checkpoints import (
    checkpoint_to_resume,
    checkpoints_in,
    prune_checkpoints,
)
from maskwright.hf.recovery.seal import MANIFEST, damage, is_sealed, seal, unseal

FILES = {"model.safetensors": b"weights", "optimizer.pt": bytes(3000), "part/scores": b""}


def checkpoint(run, step, *, sealed=True):
    folder = run / f"checkpoint-{step}"
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content + str(step).encode())
    if sealed:
        seal(folder)
    return folder


def flip(path, place=-1):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_the_manifest_is_what_sha256sum_says(tmp_path):
    content = json.loads((checkpoint(tmp_path, 8) / MANIFEST).read_text())
    assert content["format"] == 1
    assert set(content["files"]) == set(FILES)
    assert content["files"]["part/scores"] == {
        "size": 1,
        "sha256": "2c624232cdd221771294dfbb310aca000a0df6ac8b66b696d90ef06fdefb64a3",
    }


def test_a_sealed_folder_is_whole_until_anything_changes(tmp_path):
    folder = checkpoint(tmp_path, 8)
    assert damage(folder) is None
    (folder / "notes.txt").write_text("of a user, later")
    assert damage(folder) is None
    unseal(folder)
    assert not is_sealed(folder)
    assert "no manifest.json: it was not finished" in damage(folder)
    seal(folder)
    assert damage(folder) is None


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize(
    "harm, message",
    [
        (flip, "bytes of|cannot be read"),
        (lambda path: os.truncate(path, path.stat().st_size // 2), "bytes where|cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes() + b"0"), "bytes where|cannot be read"),
        (lambda path: path.unlink(), "missing|has no manifest.json"),
    ],
    ids=["another bit", "shorter", "longer", "gone"],
)
def test_any_damage_is_found_and_the_one_before_is_taken(tmp_path, caplog, name, harm, message):
    before, folder = checkpoint(tmp_path, 8), checkpoint(tmp_path, 16)
    assert latest_checkpoint(tmp_path) == folder
    assert caplog.records == []
    harm(folder / name)
    with caplog.at_level(logging.WARNING):
        assert latest_checkpoint(tmp_path) == before
    (record,) = caplog.records
    assert "checkpoint-16 is passed over: " in record.getMessage()
    assert any(part in damage(folder) for part in message.split("|"))


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("run"), 3)


@given(name=st.sampled_from(sorted(FILES)), place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_no_bit_may_flip_unseen(sealed, name, place, bit):
    path = sealed / name
    good = path.read_bytes()
    data = bytearray(good)
    data[place % len(data)] ^= 1 << bit
    path.write_bytes(data)
    assert damage(sealed) == f"the bytes of {name} are not those that were written"
    path.write_bytes(good)
    assert damage(sealed) is None


def test_half_written_ones_are_never_taken(tmp_path, caplog):
    checkpoint(tmp_path, 8)
    checkpoint(tmp_path, 100)
    for step in (9, 1000):  # by number, not by letter or by time
        checkpoint(tmp_path, step, sealed=False)
    (tmp_path / "checkpoint-5000").write_text("no folder")
    (tmp_path / "checkpoint-last").mkdir()
    assert latest_checkpoint(tmp_path).name == "checkpoint-100"
    assert len(caplog.records) == 1
    assert latest_checkpoint(tmp_path / "nowhere") is None


def test_what_is_asked_for(tmp_path):
    assert checkpoint_to_resume(None, tmp_path) is None
    assert checkpoint_to_resume(False, tmp_path) is None
    with pytest.raises(ConfigError, match=r"no whole checkpoint .*there is none at all"):
        checkpoint_to_resume(True, tmp_path)
    bare = checkpoint(tmp_path, 4, sealed=False)
    with pytest.raises(ConfigError, match=r"checkpoint-4: it has no manifest\.json"):
        checkpoint_to_resume(True, tmp_path)
    assert checkpoint_to_resume(str(bare), tmp_path) == bare  # of another Trainer, perhaps
    good = checkpoint(tmp_path, 2)
    assert checkpoint_to_resume(True, tmp_path) == good
    assert checkpoint_to_resume(good, tmp_path) == good
    flip(good / "optimizer.pt")
    with pytest.raises(CacheError, match=r"checkpoint-2 is damaged: the bytes of optimizer\.pt"):
        checkpoint_to_resume(good, tmp_path)


def test_a_disk_that_takes_no_seal_leaves_none(tmp_path, monkeypatch):
    folder = checkpoint(tmp_path, 8, sealed=False)

    def full(_number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SaveError, match="No space left on device"):
        seal(folder)
    assert not is_sealed(folder)


@given(
    sealed=st.lists(st.booleans(), max_size=7),
    keep=st.none() | st.integers(0, 4),
    best=st.integers(0, 9),
)
def test_pruning_keeps_the_newest_whole_ones(tmp_path_factory, sealed, keep, best):
    run = tmp_path_factory.mktemp("run")
    for step, whole in enumerate(sealed):
        (run / f"checkpoint-{step}").mkdir()
        if whole:
            (run / f"checkpoint-{step}" / MANIFEST).write_text("{}")
    before = checkpoints_in(run)
    whole = [one for one in before if is_sealed(one)]
    prune_checkpoints(run, keep, [str(run / f"checkpoint-{best}"), None])
    after = checkpoints_in(run)
    if not keep or not whole:
        assert after == before
        return
    protected = [one for one in before if one.name == f"checkpoint-{best}"]
    assert set(protected) <= set(after)
    others = [one for one in whole if one not in protected]
    count = max(0, keep - len(protected))
    expected = {*protected, *(others[-count:] if count else [])}
    if any(map(is_sealed, expected)):
        assert set(after) == expected
    else:
        assert after == before  # the last whole one is not given up
