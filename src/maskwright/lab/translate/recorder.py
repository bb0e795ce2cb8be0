"""What a translation run keeps while it goes on: its learning curve, its log, its time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from maskwright.lab.files import read_json, write_json
from maskwright.lab.precision import full_precision
from maskwright.lab.recorder import RECORD_FILE, Tell
from maskwright.lab.translate.budget import Budget

_SHOW_EVERY = 5
_BESIDE = ("gates/", "length/")  # what trains beside the model tells of itself


class TranslationRecorder(TrainerCallback):
    """Keeps the learning curve; evaluations do not count as training time.

    Args:
        spec: of the run, kept with each checkpoint.
        judge: the held-out scores of a model: ``loss``, ``accuracy`` and so on.
        every: steps between two points of the curve.
    """

    def __init__(
        self,
        spec: dict[str, Any],
        judge: Callable[[Any], dict[str, float]],
        every: int,
        budget: Budget,
        tell: Tell,
    ) -> None:
        self.spec = spec
        self.judge = judge
        self.every = every
        self.budget = budget
        self.tell = tell
        self.trainer: Any = None
        self.history: list[dict[str, Any]] = []
        self.training: list[dict[str, Any]] = []
        self.timing: list[dict[str, Any]] = []

    @property
    def watch(self) -> Any:
        return self.budget.watch

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self.history:
            self._evaluate(state)
        self.watch.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        step = state.global_step
        # the budget is asked before: it stands in front of the recorder
        last = step >= state.max_steps or control.should_training_stop
        if last:
            control.should_save = False  # the result itself follows
        if last or step % self.every == 0:
            self.watch.stop()
            self._evaluate(state)
            self.watch.start()
        elif step % _SHOW_EVERY == 0:
            self.tell(step, None)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.watch.stop()
        if self.history[-1]["step"] != state.global_step:  # it was stopped by something else
            self._evaluate(state)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            more = {key: value for key, value in logs.items() if key.startswith(_BESIDE)}
            self.training.append(
                {
                    "step": state.global_step,
                    "loss": float(logs["loss"]),
                    "learning_rate": float(logs["learning_rate"]),
                    "predicted": self.trainer.predicted_tokens,
                    **more,
                }
            )

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        record = {
            "spec": self.spec,
            "history": self.history,
            "training": self.training,
            "timing": self.timing,
            **self.watch.read(),
            "tokens": self.trainer.tokens_seen,
            "predicted": self.trainer.predicted_tokens,
        }
        write_json(folder / RECORD_FILE, record)

    def restore(self, checkpoint: Path) -> None:
        """What was recorded up to a checkpoint, and the time that it took."""
        record = read_json(checkpoint / RECORD_FILE)
        self.history, self.training = record["history"], record["training"]
        self.timing = record["timing"]
        self.watch.seconds, self.watch.cpu_seconds = record["seconds"], record["cpu_seconds"]
        self.trainer.tokens_seen = record["tokens"]
        self.trainer.predicted_tokens = record["predicted"]

    def _evaluate(self, state: Any) -> None:
        self.trainer.average_weights()
        with full_precision(self.trainer.model) as model:
            scores = self.judge(model)
        self.history.append(
            {
                "step": state.global_step,
                "epoch": round(float(state.epoch or 0), 4),
                "predicted": self.trainer.predicted_tokens,
                **scores,
            }
        )
        # apart from the curve, which is the same whenever the run is repeated
        self.timing.append({"step": state.global_step, **self.watch.read()})
        self.tell(state.global_step, scores["loss"])
