"""MaskingTrainer: `transformers.Trainer` whose batches know their samples and their clock."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from maskwright.errors import ConfigError
from maskwright.hf.averaged_weights import AveragedWeights
from maskwright.hf.batches.clocked_batches import ClockedBatches
from maskwright.hf.batches.lengths import take_lengths
from maskwright.hf.batches.token_budget import TokenBudget
from maskwright.hf.clock_callbacks import EpochOfSampler
from maskwright.hf.collator import MaskingCollator
from maskwright.hf.compute.mask_aware import MaskAware, MaskAwareStep
from maskwright.hf.further_loss import FurtherLoss, further_losses, need_logits
from maskwright.hf.language_model import Kind, kind_of
from maskwright.hf.learning_rate import Scaling, StepSize, scaling_of
from maskwright.hf.own_learning_rate import with_own_rates
from maskwright.hf.pairs.collator import PairCollator
from maskwright.hf.pairs.lengths import pair_lengths
from maskwright.hf.pairs.scheduled_sampling import ScheduledSampling
from maskwright.hf.predicted_loss import PredictedLoss
from maskwright.hf.recovery.recovering import RecoveringTrainer
from maskwright.hf.samples import with_sample_ids
from maskwright.hf.token_dropping.dropping import TokenDropping
from maskwright.hf.token_dropping.in_training import joined


class MaskingTrainer(AveragedWeights, ClockedBatches, PredictedLoss, RecoveringTrainer):
    """A `Trainer` for masked, causal and encoder–decoder language models.

    It differs from its parent in three things. Samples come in an order, and with a clock, that
    depend on the seed alone, so masks are the same for any number of workers and ranks and after a
    resume. The output head of a masked language model is computed at predicted positions only. And
    the loss is our own, for every model: cross-entropy, weighed as the batch says
    (``loss_weights``), summed over predicted tokens and divided by their number over all
    micro-batches and ranks. Masked diffusion (a batch with ``maskable``) is divided by the number
    of tokens that might have been masked instead, as MDLM (2406.07524) and LLaDA (2502.09992) do,
    which makes it an estimate of their bound, per token.

    Labels of a causal model are aligned with its inputs: the logits at one place are compared with
    the label of the next, once. Labels of an encoder–decoder are what its decoder writes: they are
    given to the model, which shifts them into ``decoder_input_ids`` unless the batch has some.

    Args:
        data_collator: a `MaskingCollator`, or a `PairCollator` of sources and targets; its ``seed``
            draws the masks, ``args.data_seed`` (or ``args.seed``) the order. Pairs are evaluated
            without masks, but for those that say what is to be predicted.
        predicted_only: ``False`` runs the head of a masked language model everywhere, as that of
            other models is anyway.
        mask_aware: True, or a `MaskAware`: training steps leave out padding, and logits that
            nothing is compared with, for every kind of model, and run in bfloat16 where the
            processor has it. False: they do not. Evaluation is as ever.
        lr: ``"per-predicted-token"``, or a `PerPredictedToken`: the learning rate of a step follows
            the number of tokens that it predicts. None: it is the scheduler's.
        tokens_per_batch: at most so many tokens in a batch of one process, or a `TokenBudget`, in
            place of ``args.per_device_train_batch_size`` samples; see `TokenBudgetSampler`.
        further: a `FurtherLoss`, or several, that are added to the loss of training steps; a model
            that is one needs not be given.
        scheduled_sampling: a `ScheduledSampling`: the decoder reads its own predictions in place of
            some tokens of the target. It needs a `PairCollator`.
        token_dropping: a `TokenDropping` of the model: in training its middle layers run on
            important tokens only. Padding is then left out with or without ``mask_aware``.
        bad_losses: a step whose loss or gradient is NaN or infinite moves no weight, and after so
            many in a row (10) training ends with an error. None: nothing is looked at.
        others: as for `transformers.Trainer`.

    Raises:
        ConfigError: the collator is neither of the two, or does not go with scheduled sampling.
        ModelError: the model is not a language model.
    """

    def __init__(
        self,
        model: Any = None,
        args: Any = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        *,
        predicted_only: bool = True,
        mask_aware: bool | MaskAware = False,
        lr: Scaling = None,
        tokens_per_batch: int | TokenBudget | None = None,
        further: FurtherLoss | Sequence[FurtherLoss] | None = None,
        scheduled_sampling: ScheduledSampling | None = None,
        token_dropping: TokenDropping | None = None,
        **others: Any,
    ) -> None:
        if not isinstance(data_collator, MaskingCollator | PairCollator):
            raise ConfigError(
                "MaskingTrainer takes data_collator=MaskingCollator(tokenizer, masking), got "
                f"{type(data_collator).__name__}. Sources with targets take "
                "PairCollator(tokenizer, model=model)."
            )
        self._step_size = StepSize(scaling_of(lr))
        data_collator = copy.copy(data_collator)  # the caller's own goes on without extra keys
        data_collator.carry = True
        if scheduled_sampling is not None:
            data_collator = _sampling_collator(data_collator, scheduled_sampling)
        budget = TokenBudget.of(tokens_per_batch)
        if budget is not None:
            column = getattr(args, "length_column_name", "length")
            train_dataset, lengths = take_lengths(train_dataset, column)
            if lengths is None and isinstance(data_collator, PairCollator):
                lengths = None if train_dataset is None else pair_lengths(train_dataset)
            if budget.lengths is None:
                budget = TokenBudget(budget.tokens, budget.open_batches, lengths)
        if train_dataset is not None:
            train_dataset = with_sample_ids(train_dataset)
        if isinstance(eval_dataset, dict):
            eval_dataset = {name: with_sample_ids(part) for name, part in eval_dataset.items()}
        elif eval_dataset is not None:
            eval_dataset = with_sample_ids(eval_dataset)
        if token_dropping is not None:
            others, mask_aware = joined(token_dropping, model, data_collator, others, mask_aware)
        super().__init__(model, args, data_collator, train_dataset, eval_dataset, **others)
        self._dropping = token_dropping
        unwrapped = self.accelerator.unwrap_model(self.model)
        self._kind: Kind = kind_of(unwrapped)
        self._further = further_losses(unwrapped, further)
        self._sampling = scheduled_sampling
        self.predicted_only = predicted_only and self._kind == "masked"
        self._mask_aware: MaskAwareStep | None = None
        if mask_aware:
            settings = MaskAware() if mask_aware is True else mask_aware
            half = self.args.bf16 or self.args.fp16
            logits = need_logits(self._further)
            self._mask_aware = MaskAwareStep(settings, unwrapped, half, logits)
        # the parent then counts predicted tokens over micro-batches and ranks for every model,
        # and we show it the labels as they are compared, whatever it knows of the model's loss
        self.model_accepts_loss_kwargs = True
        self._loss_shifts_labels = False
        #: Tokens that this process trained on, and how many of them it predicted.
        self.tokens_seen = 0
        self.predicted_tokens = 0
        self._sampler = None
        self._budget = budget
        if budget is not None:
            self._check_budget()
        self.add_callback(EpochOfSampler(self))
        self.add_callback(self._step_size)
        for one in self._further:
            callback = getattr(one, "callback", None)
            if callback is not None and callback not in self.callback_handler.callbacks:
                self.add_callback(callback)

    # -- resuming ---------------------------------------------------------------------------

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self._dropping is not None and self._dropping.running is not None:
            self._dropping.running.restore(Path(resume_from_checkpoint))

    # -- the learning rate ------------------------------------------------------------------

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        given = self.optimizer is not None
        optimizer = super().create_optimizer(*args, **kwargs)
        return optimizer if given else with_own_rates(optimizer, cast(Any, self.model))

    def _get_learning_rate(self) -> float:
        # what is logged is what the step took
        return self._step_size.used(super()._get_learning_rate(), self.optimizer)


def _sampling_collator(collator: Any, sampling: ScheduledSampling) -> PairCollator:
    """The collator, which now also draws what the decoder is to predict for itself."""
    if not isinstance(collator, PairCollator) or not collator.autoregressive:
        why = (
            f"got {type(collator).__name__}"
            if not isinstance(collator, PairCollator)
            else f"its target policy emits {collator.target.emit}, which predicts all at once"
        )
        raise ConfigError(
            "scheduled_sampling replaces what a decoder reads one token after another, and needs a "
            f"PairCollator whose labels are all tokens of the target; {why}."
        )
    collator.sampling = sampling
    return collator
