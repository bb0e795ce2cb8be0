"""Killed at any moment, a preparation goes on and ends with the same bytes."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from maskwright.data.prepare import prepare
from tests.data.prepare.texts import SMALL, WITH_PHRASES, contents, small_tokenizer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a fork of this process")


def killed_at(number: int, after: bool, source, out, settings) -> bool:
    """Prepares in a fork that is killed at its rename ``number``; whether it came so far."""
    if (child := os.fork()) == 0:
        left, rename = number, os.replace

        def replace(*arguments):
            nonlocal left
            left -= 1
            if left < 0 and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            rename(*arguments)
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = replace
        try:
            prepare(source, small_tokenizer(), out, settings)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def killed_in(seconds: float, source, out, settings) -> bool:
    """Prepares in a fork that is killed after some time; whether it was still at it."""
    if (child := os.fork()) == 0:
        try:
            prepare(source, small_tokenizer(), out, settings)
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_killed_again_and_again_it_comes_to_its_end(tmp_path, source, whole):
    """Each try is killed a few renames after it began, before one and after one in turn."""
    out, kills, number = tmp_path / "out", 0, 9
    done: dict[str, int] = {}
    while killed_at(number, kills % 2 == 0, source, out, WITH_PHRASES):
        kills += 1
        for path in (out / "work").glob("*.json"):
            if path.name.startswith("chunk-"):
                continue  # the note of a table: its task may not have been finished
            # what a task has finished is not done again
            assert done.setdefault(path.name, path.stat().st_ino) == path.stat().st_ino
        assert kills < 60
    assert kills > 8
    assert contents(out) == contents(whole)


def test_killed_at_random_moments(tmp_path, source, whole):
    draws, kills = random.Random(0), 0
    out = tmp_path / "out"
    while killed_in(draws.uniform(0.005, 0.05), source, out, WITH_PHRASES) and kills < 4:
        kills += 1
    prepare(source, small_tokenizer(), out, WITH_PHRASES)
    assert kills >= 1
    assert contents(out) == contents(whole)


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
def test_killed_once_at_every_rename(tmp_path, source, after):
    prepare(source, small_tokenizer(), tmp_path / "whole", SMALL)
    expected = contents(tmp_path / "whole")
    number = 0
    while killed_at(number, after, source, tmp_path / str(number), SMALL):
        prepare(source, small_tokenizer(), tmp_path / str(number), SMALL)
        assert contents(tmp_path / str(number)) == expected
        number += 1
    assert number > 30


@pytest.mark.slow
def test_killed_at_many_random_moments(tmp_path, source, whole):
    draws = random.Random(1)
    for number in range(20):
        out = tmp_path / str(number)
        while killed_in(draws.uniform(0.02, 0.8), source, out, WITH_PHRASES):
            pass
        assert contents(out) == contents(whole)
