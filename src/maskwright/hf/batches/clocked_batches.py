"""A `Trainer` whose samples come in an order, and with a clock, that depend on the seed alone."""

from __future__ import annotations

import copy
from typing import Any

from maskwright.hf.batches.uneven_epochs import UnevenEpochs
from maskwright.hf.pairs.collator import PairCollator
from maskwright.hf.samples import ClockedSampler, with_sample_ids


class ClockedBatches(UnevenEpochs):
    """What `MaskingTrainer` has of samples: their ids, their order, and whose collator they get."""

    def _get_train_sampler(self, train_dataset: Any = None) -> ClockedSampler:
        args: Any = self.args
        dataset: Any = self.train_dataset if train_dataset is None else train_dataset
        sampler = ClockedSampler(
            len(dataset),
            self._train_batch_size,
            seed=args.seed if args.data_seed is None else args.data_seed,
            shuffle=args.train_sampling_strategy != "sequential",
            accumulation=args.gradient_accumulation_steps,
            processes=args.world_size,
            drop_last=args.dataloader_drop_last,
        )
        steps = sampler.steps_per_epoch * args.num_train_epochs
        sampler.total_steps = args.max_steps if args.max_steps > 0 else max(1, round(steps))
        self._sampler = sampler
        return sampler

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        # a str is the name of one of several data sets, which have their ids
        named = eval_dataset is None or isinstance(eval_dataset, str)
        return super().get_eval_dataloader(eval_dataset if named else with_sample_ids(eval_dataset))

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        return super().get_test_dataloader(with_sample_ids(test_dataset))

    def _get_eval_sampler(self, eval_dataset: Any) -> ClockedSampler:
        # epoch 0 of a run of one step: evaluation masks never change
        return ClockedSampler(len(eval_dataset), len(eval_dataset), shuffle=False, total_steps=1)

    def _get_collator_with_removed_columns(
        self, data_collator: Any, description: Any = None
    ) -> Any:
        # it takes what it knows of a sample, and says so where it does not
        if description == "Training":
            return data_collator
        if isinstance(data_collator, PairCollator):
            return data_collator.for_evaluation()
        if data_collator.scores is not None:
            # scores are of training samples, and those of evaluation have other ids
            data_collator = copy.copy(data_collator)
            data_collator.scores = None
        return data_collator
