"""A `Trainer` whose batches hold a number of tokens, so that its epochs are not of equal length.

The parent asks its loader for the number of batches once, and takes each epoch to have as many.
This one asks the sampler, epoch by epoch: for the steps of the run, for the place where a run
resumes, and for the end of each pass.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import seed_worker

from maskwright.errors import ConfigError
from maskwright.hf.batches.lengths import checked_lengths, lengths_of
from maskwright.hf.batches.token_budget import TokenBudget, TokenBudgetSampler

# what is overridden below, and is no public method
_OVERRIDDEN = ("set_initial_training_values", "_init_training_state", "_run_epoch")


class UnevenEpochs(Trainer):
    """A `Trainer` with batches by their number of tokens, where ``_budget`` says so."""

    _budget: TokenBudget | None = None
    _sampler: Any = None

    @property
    def _budgeted(self) -> TokenBudgetSampler | None:
        return self._sampler if isinstance(self._sampler, TokenBudgetSampler) else None

    def _check_budget(self) -> None:
        missing = [name for name in _OVERRIDDEN if not hasattr(Trainer, name)]
        if missing:
            raise ConfigError(
                f"tokens_per_batch needs Trainer.{missing[0]}, which this version of transformers "
                "does not have. Use version 5.23, or give per_device_train_batch_size."
            )
        if self.args.auto_find_batch_size:
            raise ConfigError(
                "auto_find_batch_size lowers the number of samples of a batch, which "
                "tokens_per_batch does not go by. Use one of the two."
            )
        if self.args.n_gpu > 1:
            raise ConfigError(
                "tokens_per_batch is the budget of one process, and DataParallel (one process, "
                "several GPUs) would share it. Start one process a GPU, with torchrun, or set "
                "CUDA_VISIBLE_DEVICES."
            )

    # -- the loader -------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader:
        if self._budget is None or self.train_dataset is None:
            return super().get_train_dataloader()
        args: Any = self.args
        dataset: Any = self.train_dataset
        self._sampler = self._token_budget_sampler(self._budget)
        loader = DataLoader(
            dataset,
            batch_sampler=self._sampler,
            collate_fn=self._get_collator_with_removed_columns(self.data_collator, "Training"),
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            multiprocessing_context=getattr(args, "dataloader_multiprocessing_context", None),
            prefetch_factor=args.dataloader_prefetch_factor,
            worker_init_fn=partial(
                seed_worker, num_workers=args.dataloader_num_workers, rank=args.process_index
            ),
        )
        return self.accelerator.prepare(loader)

    def _token_budget_sampler(self, budget: TokenBudget) -> TokenBudgetSampler:
        args: Any = self.args
        dataset: Any = self.train_dataset
        if budget.lengths is None:
            shown = not args.disable_tqdm and self.is_local_process_zero()
            lengths = lengths_of(dataset, progress=shown)
            # read once, however often the trainer trains
            self._budget = TokenBudget(budget.tokens, budget.open_batches, lengths)
        else:
            lengths = checked_lengths(budget.lengths, len(dataset))
        sampler = TokenBudgetSampler(
            lengths,
            budget.tokens,
            seed=args.seed if args.data_seed is None else args.data_seed,
            shuffle=args.train_sampling_strategy != "sequential",
            accumulation=args.gradient_accumulation_steps,
            processes=args.world_size,
            drop_last=args.dataloader_drop_last,
            open_batches=budget.open_batches,
        )
        sampler.total_steps = max(1, _steps_and_epochs(sampler, args)[0])
        return sampler

    # -- epochs of unequal length -----------------------------------------------------------

    def set_initial_training_values(self, args: Any, dataloader: Any) -> Any:
        values = super().set_initial_training_values(args, dataloader)
        sampler = self._budgeted
        if sampler is None:
            return values
        steps, epochs = _steps_and_epochs(sampler, args)
        samples = len(sampler.lengths)
        return (
            math.ceil(epochs), sampler.steps_in(0), samples, samples * epochs, values[4],
            sampler.batches_in(0) // sampler.processes, steps,
        )  # fmt: skip

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        place = super()._init_training_state(*args, **kwargs)
        sampler = self._budgeted
        if sampler is None:
            return place
        epoch, steps = sampler.place_of(self.state.global_step)
        return epoch, 0 if self.args.ignore_data_skip else steps * sampler.accumulation

    def _run_epoch(self, *args: Any, **given: Any) -> Any:
        sampler = self._budgeted
        if sampler is not None:
            epoch = given["epoch"]
            # ours, whatever Accelerate has wrapped round it
            sampler.set_epoch(epoch)
            given["steps_in_epoch"] = sampler.batches_in(epoch) // sampler.processes
            given["num_update_steps_per_epoch"] = sampler.steps_in(epoch)
        return super()._run_epoch(*args, **given)


def _steps_and_epochs(sampler: TokenBudgetSampler, args: Any) -> tuple[int, float]:
    """Optimizer steps of the whole run, and the epochs that they are."""
    if args.max_steps > 0:
        epoch, done = sampler.place_of(args.max_steps)
        return args.max_steps, epoch + done / sampler.steps_in(epoch)
    whole = int(args.num_train_epochs)
    steps, part = sampler.steps_before(whole), args.num_train_epochs - whole
    if part:
        steps += math.ceil(part * sampler.steps_in(whole))
    return steps, args.num_train_epochs
