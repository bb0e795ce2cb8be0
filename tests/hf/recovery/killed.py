"""A small guided run, in forks of this process that are killed, until one comes to its end.

A fork has transformers already, so it costs what its steps cost.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskwright import recipe
from maskwright.guidance import ScoreStore
from maskwright.hf import Guidance, MaskingCollator, MaskingTrainer, latest_checkpoint
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.seen import views

ROWS = tiny.samples(24)
STEPS = 12
# What a process does to files. Python tells before each of them.
_EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}


class Telling(MaskingTrainer):
    """Adds a line to a file in each step, before the step is taken."""

    lines: int

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        ids, seen = inputs["sample_ids"].tolist(), views(inputs)
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if model.training:
            line = json.dumps([self.state.global_step, ids, seen, loss.item().hex()])
            os.write(self.lines, (line + "\n").encode())  # all of it or nothing
        return loss


def go_on(folder: Path) -> None:
    """What a script does that is started again and again: from the last checkpoint to the end."""
    last, scores = latest_checkpoint(folder / "run"), folder / "scores"
    if last is None:  # the run begins anew, and so do its scores
        scores.unlink(missing_ok=True)
    lengths = np.array([len(row["input_ids"]) for row in ROWS])
    store = ScoreStore.open(scores) if scores.exists() else ScoreStore.create(scores, lengths)
    arguments = tiny.arguments(
        folder / "run", save_strategy="steps", save_steps=2, save_total_limit=1,
        logging_strategy="steps", logging_steps=3,
    )  # fmt: skip
    trainer = Telling(
        tiny.model(dropout=True),
        arguments,
        MaskingCollator(tokenizers.words(), recipe("loss-guided"), seed=5, scores=store),
        ROWS,
        callbacks=[Guidance(store, source="loss")],
    )
    trainer.lines = os.open(folder / "lines", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    trainer.train(resume_from_checkpoint=None if last is None else True)
    weights = hashlib.sha256()
    for _, one in sorted(trainer.model.state_dict().items()):
        weights.update(one.numpy().tobytes())
    logged = [[one["step"], one["loss"]] for one in trainer.state.log_history if "loss" in one]
    kept = store.read(np.arange(len(ROWS))).values.tobytes()
    end = [weights.hexdigest(), logged, hashlib.sha256(kept).hexdigest()]
    (folder / "end").write_text(json.dumps(end))


@dataclass(frozen=True)
class Outcome:
    """What came of a run: each step as often as it was taken, and what it ended with."""

    steps: dict[int, set[str]]
    end: Any

    @classmethod
    def of(cls, folder: Path) -> Outcome:
        steps: dict[int, set[str]] = {}
        for line in (folder / "lines").read_text().splitlines():
            step, *rest = json.loads(line)
            steps.setdefault(step, set()).add(json.dumps(rest))
        return cls(steps, json.loads((folder / "end").read_text()))


def in_fork(folder: Path, before: Callable[[], None] = lambda: None) -> int:
    """`go_on` in a fork, whose number it gives."""
    folder.mkdir(exist_ok=True)
    if child := os.fork():
        return child
    # by their paths, so that the event of each file that is deleted says which
    shutil._use_fd_functions = False  # type: ignore[attr-defined]
    # a kill leaves what was given to the system; only its own end would lose that
    os.fsync = lambda number: None
    try:
        torch.set_num_threads(1)
        before()
        go_on(folder)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def ended(child: int) -> bool:
    """Whether a fork came to its end; otherwise it was killed, as was meant."""
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0, "the run failed; its traceback is above"
    return True


def at_event(folder: Path, number: int) -> bool:
    """Goes on, and is killed before the event ``number`` (from 0) below the folder; whether it
    ended first."""

    def before() -> None:
        left, inside = number, str(folder)

        def hook(event: str, args: tuple[Any, ...]) -> None:
            nonlocal left
            if event in _EVENTS and args and inside in os.fsdecode(_path(args[0])):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)

    return ended(in_fork(folder, before))


def in_seconds(folder: Path, seconds: float) -> bool:
    """Goes on, and is killed after some time; whether it ended first."""
    child = in_fork(folder)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return ended(child)


def events_of(folder: Path) -> list[str]:
    """The events of a run that is not killed: ``open run/checkpoint-2/optimizer.pt``."""

    def before() -> None:
        log = os.open(folder / "events", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        inside = str(folder)

        def hook(event: str, args: tuple[Any, ...]) -> None:
            path = os.fsdecode(_path(args[0])) if event in _EVENTS and args else ""
            if inside in path:
                os.write(log, f"{event} {path.partition(inside)[2]}\n".encode())

        sys.addaudithook(hook)

    assert ended(in_fork(folder, before))
    return (folder / "events").read_text().splitlines()


def _path(given: Any) -> str | bytes:
    if isinstance(given, os.PathLike):
        return os.fspath(given)
    return given if isinstance(given, str | bytes) else ""  # numbers of files that are open
