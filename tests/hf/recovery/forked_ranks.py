"""Two ranks over gloo, each in a fork of this process, which has transformers already."""

from __future__ import annotations

import faulthandler
import hashlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from maskwright import recipe
from maskwright.hf import MaskingCollator, MaskingTrainer, latest_checkpoint
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.seen import views

STEPS, WORLD = 6, 2
PATIENCE = 90  # seconds, after which a rank that hangs says where, and ends
ROWS = tiny.samples(24)


class Failing(MaskingTrainer):
    """Tells of each step; and fails as it was told: ``{"nan": (rank, step), …}``."""

    rank: int
    lines: int
    dying: Path
    failures: dict[str, tuple[int, int]]

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        ids, seen = inputs["sample_ids"].tolist(), views(inputs)
        here = self.rank, self.state.global_step
        kill = self.failures.get("kill")
        if kill is not None and kill[1] == here[1]:
            if kill == here:
                self.dying.touch()
            while not self.dying.exists():  # both, and neither in the midst of an exchange
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        if self.failures.get("memory") == here:
            raise torch.OutOfMemoryError("out of memory, for the test")
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if self.failures.get("nan") == here:
            loss = loss * float("nan")
        line = json.dumps([here[1], ids, seen, loss.item().hex()])
        os.write(self.lines, (line + "\n").encode())
        return loss


def _rank(folder: Path, number: int, port: int, failures: dict[str, tuple[int, int]]) -> None:
    from accelerate.state import AcceleratorState

    os.environ |= {
        "RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(WORLD),
        "LOCAL_WORLD_SIZE": str(WORLD), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    begun = latest_checkpoint(folder / "run") is not None
    AcceleratorState._reset_state(reset_partial_state=True)  # this process had one of its own
    torch.set_num_threads(1)
    trainer = Failing(
        tiny.model(dropout=True),
        tiny.arguments(
            folder / "run", max_steps=STEPS, save_strategy="steps", save_steps=2,
            logging_strategy="steps", logging_steps=1, ddp_backend="gloo",
        ),
        MaskingCollator(tokenizers.words(), recipe("roberta"), seed=5),
        ROWS,
    )  # fmt: skip
    trainer.rank, trainer.failures = number, failures
    trainer.dying = folder / "dying"
    trainer.lines = os.open(folder / f"lines-{number}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    trainer.train(resume_from_checkpoint=begun)
    weights = hashlib.sha256()
    for _, one in sorted(trainer.accelerator.unwrap_model(trainer.model).state_dict().items()):
        weights.update(one.numpy().tobytes())
    logged = [one for one in trainer.state.log_history if "loss" in one]
    kept = [[one["step"], one["loss"], one.get("bad_losses", 0)] for one in logged]
    end = folder / f"end-{number}"
    end.with_suffix(".new").write_text(json.dumps([weights.hexdigest(), kept]))
    end.with_suffix(".new").rename(end)
    # The group is not taken down: a rank that does while the other still talks to it may hang.
    while not all((folder / f"end-{other}").exists() for other in range(WORLD)):
        time.sleep(0.01)


def go_on(folder: Path, **failures: tuple[int, int]) -> list[int]:
    """Both ranks, from the last checkpoint to the end, or until they fail. How each ended, as
    `os.waitpid` has it. (gloo tells a rank that waits for one that is gone.)

    Args:
        failures: what goes wrong in which step of which rank; of a kill, the other is killed too.
    """
    folder.mkdir(exist_ok=True)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    children = {}
    for number in range(WORLD):
        if child := os.fork():
            children[child] = number
            continue
        try:
            faulthandler.dump_traceback_later(PATIENCE, exit=True, file=sys.__stderr__)
            _rank(folder, number, port, failures)
        except BaseException as error:
            (folder / f"error-{number}").write_text(f"{type(error).__name__}: {error}")
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    found = [0] * WORLD
    for child, number in children.items():
        found[number] = os.waitpid(child, 0)[1]
    return found


def steps_of(folder: Path, number: int) -> dict[int, set[str]]:
    """Of each step what a rank told, as often as it differed."""
    steps: dict[int, set[str]] = {}
    for line in (folder / f"lines-{number}").read_text().splitlines():
        step, *rest = json.loads(line)
        steps.setdefault(step, set()).add(json.dumps(rest))
    return steps


def end_of(folder: Path, number: int) -> tuple[str, list[list[float]]]:
    """The hash of a rank's weights; and step, loss and bad losses of each entry of its log."""
    weights, logged = json.loads((folder / f"end-{number}").read_text())
    return weights, logged
