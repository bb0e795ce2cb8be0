"""RecoveringTrainer: a `Trainer` that resumes from what is whole, and says why it stopped."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer

from maskwright.errors import SaveError, TrainingError
from maskwright.hf.guided.ranks import barrier, of_all_ranks, world
from maskwright.hf.recovery.bad_losses import BadLosses
from maskwright.hf.recovery.checkpoints import (
    begin_checkpoint,
    checkpoint_to_resume,
    checkpoints_in,
    prune_checkpoints,
    remove_checkpoint,
)
from maskwright.hf.recovery.halves import Halves, Inputs
from maskwright.hf.recovery.logged_loss import LoggedLoss
from maskwright.hf.recovery.seal import is_sealed, seal
from maskwright.placing import why_not_written

_DEAD_WORKER = re.compile(r"DataLoader worker .*?(killed by signal: [\w ]+|exited unexpectedly)")
# About the disk; whatever else a callback may raise while it saves stays itself.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM}


class RecoveringTrainer(Trainer):
    """What `MaskingTrainer` has of checkpoints and failures; docs/resume.md tells it as a story.

    Checkpoints are sealed after all callbacks have added to them, and only then are older ones
    deleted. ``resume_from_checkpoint=True`` takes the newest that is whole.
    """

    def __init__(self, *args: Any, bad_losses: int | None = 10, **others: Any) -> None:
        self._bad_losses = BadLosses(bad_losses)
        self._halves = Halves()
        self._unsealed: Path | None = None
        self._saving = False
        self._hidden_limit: int | None = None
        super().__init__(*args, **others)
        self._logged_loss = LoggedLoss(self)
        self.add_callback(self._bad_losses)
        self.add_callback(self._logged_loss)

    # -- checkpoints --------------------------------------------------------------------------

    def train(
        self, resume_from_checkpoint: bool | str | Path | None = None, *args: Any, **others: Any
    ) -> Any:
        def find() -> str | None:
            found = checkpoint_to_resume(resume_from_checkpoint, self.args.output_dir or ".")
            return None if found is None else str(found)

        start = self._agreed(find)
        try:
            result = super().train(start, *args, **others)
        except (RuntimeError, ConnectionError, EOFError) as error:
            dead = _DEAD_WORKER.search(str(self._told(error)))
            if dead is None:
                raise
            raise TrainingError(self._about_worker(dead[1])) from error
        if start is not None and self.args.should_save:
            # killed between its last checkpoint and this, a run has no other moment for it
            limit, best = self.args.save_total_limit, self.state.best_model_checkpoint
            prune_checkpoints(str(self.args.output_dir), limit, (best,))
        return result

    def _told(self, error: Exception) -> Exception:
        """What torch says of a worker whose connection broke before the system told of its end."""
        if self.args.dataloader_num_workers and not isinstance(error, RuntimeError):
            try:
                time.sleep(2)  # torch's handler of the signal raises in here
            except RuntimeError as told:
                return told
        return error

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        name = f"checkpoint-{self.state.global_step}"
        self._unsealed = Path(self._get_output_dir(trial=trial)) / name
        if self.args.should_save:
            begin_checkpoint(self._unsealed)
        barrier()  # the other ranks write into it, too
        self._logged_loss.keep(self.state)
        self._hidden_limit = self.args.save_total_limit
        with self._limit(None):  # the parent would delete before this one is sealed
            super()._save_checkpoint(model, trial)
        self._hidden_limit = None
        if not self._saving:  # nobody else adds to it: a signal asked for it
            self._seal()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        # with it go the arguments, as they were given
        with self._limit(self._hidden_limit or self.args.save_total_limit):
            super().save_model(output_dir, _internal_call)

    @contextmanager
    def _limit(self, limit: int | None) -> Iterator[None]:
        before, self.args.save_total_limit = self.args.save_total_limit, limit
        try:
            yield
        finally:
            self.args.save_total_limit = before

    def _maybe_log_save_evaluate(self, *args: Any, **others: Any) -> None:
        # the one place where a checkpoint is written and callbacks add to it
        self._unsealed, self._saving = None, True
        try:
            super()._maybe_log_save_evaluate(*args, **others)
            self._seal()
        except Exception as error:
            half, self._unsealed = self._unsealed, None
            reason = _why_not_saved(error)
            if half is None or reason is None:
                raise
            remove_checkpoint(half)  # the disk may be full of it
            kept = self._newest(half.parent)
            raise SaveError(
                f"{half} cannot be written: {reason}. Free some space and resume: "
                f"{kept or 'no earlier checkpoint'} is kept, and nothing was left half-written."
            ) from error
        finally:
            self._saving = False

    def _seal(self) -> None:
        checkpoint, best = self._unsealed, self.state.best_model_checkpoint
        if checkpoint is None:
            return
        barrier()
        if self.args.should_save:
            seal(checkpoint)
            kept = (checkpoint, best)
            prune_checkpoints(checkpoint.parent, self.args.save_total_limit, kept)
        self._unsealed = None

    def _agreed(self, find: Callable[[], str | None]) -> str | None:
        """What the first rank finds, or its error, in every rank."""
        found, error = None, None
        if self.args.process_index == 0:
            try:
                found = find()
            except Exception as caught:
                error = caught
        found, error = of_all_ranks((found, error))[0]
        if error is not None:
            raise error
        return found

    def _newest(self, folder: Path) -> str | None:
        sealed = [one.name for one in checkpoints_in(folder) if is_sealed(one)]
        return sealed[-1] if sealed else None

    def _about_worker(self, how: str) -> str:
        kept = self._newest(Path(self.args.output_dir or "."))
        way = "train again" if kept is None else "train(resume_from_checkpoint=True)"
        return (
            f"A worker of the DataLoader died after step {self.state.global_step} ({how}); often "
            f"the system was out of memory. Lower dataloader_num_workers or the batch, and {way}: "
            f"masks and order are the same for any number of workers, and {kept or 'nothing'} is "
            "kept."
        )

    # -- steps --------------------------------------------------------------------------------

    def get_batch_samples(self, *args: Any, **others: Any) -> Any:
        self._halves.begin()
        return super().get_batch_samples(*args, **others)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        def step(part: Inputs) -> torch.Tensor:
            # a dict of its own: the parent may take keys out of it
            return super(RecoveringTrainer, self).training_step(
                model, dict(part), num_items_in_batch
            )

        # the parts of a batch add up where all are divided by the same number of tokens; a rank
        # that took parts would leave the others waiting for its gradients
        adds_up = num_items_in_batch is not None and self.model_accepts_loss_kwargs
        if adds_up and world() == 1 and not self.args.auto_find_batch_size:
            loss = self._halves.run(inputs, step, model.zero_grad)
        else:
            with self._alone():
                loss = super().training_step(model, inputs, num_items_in_batch)
        self._bad_losses.see_loss(loss, inputs)
        return loss

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Of several ranks, the one whose memory runs out says what to do; whoever started them
        ends the others, which wait for its gradients."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            args = self.args
            if world() == 1 or args.auto_find_batch_size:
                raise
            kept = self._newest(Path(args.output_dir or "."))
            raise TrainingError(
                f"Memory ran out on rank {args.process_index} of {world()} in step "
                f"{self.state.global_step + 1}. Of one process only a batch is halved. Lower "
                f"per_device_train_batch_size ({args.per_device_train_batch_size} now; or "
                "tokens_per_batch), and raise gradient_accumulation_steps "
                f"({args.gradient_accumulation_steps} now) as many times: the samples, masks and "
                "losses of a step stay the same. train(resume_from_checkpoint=True) goes on from "
                f"{kept or 'the beginning'}."
            ) from error

    def _get_grad_norm(self, *args: Any, **others: Any) -> Any:
        norm = super()._get_grad_norm(*args, **others)
        self._bad_losses.see_gradient(norm)
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs.update(self._bad_losses.measures())
        super().log(logs, start_time)


def _why_not_saved(error: Exception) -> str | None:
    """In words; None where the error is not about the disk."""
    if isinstance(error, SaveError):
        return why_not_written(error.__cause__ or error) or str(error)
    if isinstance(error, OSError) and error.errno not in _DISK:
        return None
    return why_not_written(error)
