"""What a run keeps while it goes on: its learning curve, its log, its time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from maskwright.clock import Clock
from maskwright.evaluation.heldout import HeldOut, Scores
from maskwright.lab.files import read_json, write_json
from maskwright.lab.mask_statistics import MaskStatistics
from maskwright.lab.precision import full_precision
from maskwright.lab.scheduled import scheduled
from maskwright.lab.stopwatch import Stopwatch

RECORD_FILE = "record.json"  # in a checkpoint

# Called with the step, and with the held-out loss where it was just measured.
Tell = Callable[[int, float | None], None]


class Recorder(TrainerCallback):
    """Keeps the learning curve, and the time that training took without the evaluations."""

    def __init__(
        self, spec: dict[str, Any], held_out: HeldOut, masks: MaskStatistics, tell: Tell
    ) -> None:
        self.spec = spec
        self.held_out = held_out
        self.masks = masks
        self.tell = tell
        self.trainer: Any = None
        self.history: list[dict[str, Any]] = []
        self.training: list[dict[str, Any]] = []
        self.timing: list[dict[str, Any]] = []
        self.scores: Scores | None = None
        self.watch = Stopwatch()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self._evaluate(state)
        self.watch.start()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        times = self.watch.read()
        self.masks.save(folder)
        write_json(
            folder / RECORD_FILE,
            {
                "spec": self.spec,
                "history": self.history,
                "training": self.training,
                "timing": self.timing,
                **times,
                "tokens": self.trainer.tokens_seen,
                "predicted": self.trainer.predicted_tokens,
            },
        )

    def restore(self, checkpoint: Path) -> None:
        """What was recorded up to a checkpoint."""
        record = read_json(checkpoint / RECORD_FILE)
        self.history, self.training = record["history"], record["training"]
        self.timing = record["timing"]
        self.masks.restore(checkpoint)
        self.watch.seconds = record["seconds"]
        self.watch.cpu_seconds = record.get("cpu_seconds", 0.0)  # of an older version: none
        self.trainer.tokens_seen = record["tokens"]
        self.trainer.predicted_tokens = record["predicted"]

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        last = state.global_step >= state.max_steps
        if last:
            control.should_save = False  # the result itself follows
        if last or state.global_step % self.spec["evaluation"]["every"] == 0:
            self.watch.stop()
            self._evaluate(state)
        elif state.global_step % 5 == 0:
            self.tell(state.global_step, None)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.training.append(
                {
                    "step": state.global_step,
                    "loss": float(logs["loss"]),
                    "learning_rate": float(logs["learning_rate"]),
                    "predicted": self.trainer.predicted_tokens,
                    "mask_rate": self.masks.rate(),
                    **scheduled(self.trainer.data_collator.masking, self._clock(state)),
                }
            )

    def _clock(self, state: Any) -> Clock:
        """Of the step that was just taken."""
        step = max(0, state.global_step - 1)
        return Clock(self.spec["seed"], None, step, max(1, state.max_steps))

    def _evaluate(self, state: Any) -> None:
        self.trainer.average_weights()
        with full_precision(self.trainer.model) as model:
            self.scores = self.held_out.score(model)
        mean = self.scores.mean
        self.history.append(
            {
                "step": state.global_step,
                "epoch": round(float(state.epoch or 0), 4),
                "loss": mean["loss"],
                "accuracy": mean["accuracy"],
                "predicted": self.trainer.predicted_tokens,
                "masks": self.masks.take(state.global_step) if state.global_step else {},
            }
        )
        # apart from the curve, which is the same whenever the run is repeated
        self.timing.append({"step": state.global_step, **self.watch.read()})
        self.tell(state.global_step, mean["loss"])
        self.watch.start()
