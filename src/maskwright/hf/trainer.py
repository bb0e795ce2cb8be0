"""MaskingTrainer: `transformers.Trainer` whose batches know their samples and their clock."""

from __future__ import annotations

import copy
import weakref
from contextlib import ExitStack, nullcontext
from typing import Any

import torch
from torch.nn import functional
from transformers import TrainerCallback

from maskwright.corruption.emit import IGNORE
from maskwright.errors import ConfigError
from maskwright.hf.batches.lengths import take_lengths
from maskwright.hf.batches.token_budget import TokenBudget, TokenBudgetSampler
from maskwright.hf.batches.uneven_epochs import UnevenEpochs
from maskwright.hf.collator import MaskingCollator
from maskwright.hf.compute.batch import for_decoder
from maskwright.hf.compute.mask_aware import MaskAware, MaskAwareStep
from maskwright.hf.further_loss import FurtherLoss
from maskwright.hf.guided.observer import BatchObserver, SeenBatch
from maskwright.hf.guided.places import PLACES, TokenPlaces
from maskwright.hf.head import predicted_only
from maskwright.hf.language_model import Kind, compared, kind_of
from maskwright.hf.learning_rate import Scaling, StepSize, count_of, scaling_of
from maskwright.hf.recovery.recovering import RecoveringTrainer
from maskwright.hf.samples import ClockedSampler, with_sample_ids

# What a batch has for us and no model's forward takes.
_OURS = ("sample_ids", "clock", "loss_weights", "maskable", *PLACES)


class MaskingTrainer(UnevenEpochs, RecoveringTrainer):
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
        data_collator: a `MaskingCollator`; its ``seed`` draws the masks, ``args.data_seed`` (or
            ``args.seed``) the order.
        predicted_only: ``False`` runs the head of a masked language model everywhere, as that of
            other models is anyway.
        mask_aware: True, or a `MaskAware`: training steps leave out padding, and logits that
            nothing is compared with, for every kind of model, and run in bfloat16 where the
            processor has it. False: they do not. Evaluation is as ever.
        lr: ``"per-predicted-token"``, or a `PerPredictedToken`: the learning rate of a step follows
            the number of tokens that it predicts. None: it is the scheduler's.
        tokens_per_batch: at most so many tokens in a batch of one process, or a `TokenBudget`, in
            place of ``args.per_device_train_batch_size`` samples; see `TokenBudgetSampler`.
        bad_losses: a step whose loss or gradient is NaN or infinite moves no weight, and after so
            many in a row (10) training ends with an error. None: nothing is looked at.
        others: as for `transformers.Trainer`.

    Raises:
        ConfigError: the collator is not a `MaskingCollator`.
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
        **others: Any,
    ) -> None:
        if not isinstance(data_collator, MaskingCollator):
            raise ConfigError(
                "MaskingTrainer takes data_collator=MaskingCollator(tokenizer, masking), got "
                f"{type(data_collator).__name__}."
            )
        self._step_size = StepSize(scaling_of(lr))
        data_collator = copy.copy(data_collator)  # the caller's own goes on without extra keys
        data_collator.carry = True
        budget = TokenBudget.of(tokens_per_batch)
        if budget is not None:
            column = getattr(args, "length_column_name", "length")
            train_dataset, lengths = take_lengths(train_dataset, column)
            if budget.lengths is None:
                budget = TokenBudget(budget.tokens, budget.open_batches, lengths)
        if train_dataset is not None:
            train_dataset = with_sample_ids(train_dataset)
        if isinstance(eval_dataset, dict):
            eval_dataset = {name: with_sample_ids(part) for name, part in eval_dataset.items()}
        elif eval_dataset is not None:
            eval_dataset = with_sample_ids(eval_dataset)
        super().__init__(model, args, data_collator, train_dataset, eval_dataset, **others)
        unwrapped = self.accelerator.unwrap_model(self.model)
        self._kind: Kind = kind_of(unwrapped)
        self._further = unwrapped if isinstance(unwrapped, FurtherLoss) else None
        self._step_tokens: Any = None  # real tokens of a step, which a further loss is a mean over
        self.predicted_only = predicted_only and self._kind == "masked"
        self._mask_aware: MaskAwareStep | None = None
        if mask_aware:
            settings = MaskAware() if mask_aware is True else mask_aware
            half = self.args.bf16 or self.args.fp16
            logits = self._further is not None
            self._mask_aware = MaskAwareStep(settings, unwrapped, half, logits)
        # the parent then counts predicted tokens over micro-batches and ranks for every model,
        # and we show it the labels as they are compared, whatever it knows of the model's loss
        self.model_accepts_loss_kwargs = True
        self._loss_shifts_labels = False
        #: Tokens that this process trained on, and how many of them it predicted.
        self.tokens_seen = 0
        self.predicted_tokens = 0
        self._sampler: ClockedSampler | TokenBudgetSampler | None = None
        self._budget = budget
        if budget is not None:
            self._check_budget()
        self.add_callback(_EpochOfSampler(self))
        self.add_callback(self._step_size)

    # -- samples with their clock ---------------------------------------------------------

    def _get_train_sampler(self, train_dataset: Any = None) -> ClockedSampler:
        args = self.args
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
        if description != "Training" and data_collator.scores is not None:
            # scores are of training samples, and those of evaluation have other ids
            data_collator = copy.copy(data_collator)
            data_collator.scores = None
        return data_collator  # it takes what it knows, and says so where it does not

    # -- what observers see -----------------------------------------------------------------

    @property
    def _observers(self) -> list[BatchObserver]:
        return [one for one in self.callback_handler.callbacks if isinstance(one, BatchObserver)]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            for one in [*self._observers, *([self._further] if self._further else [])]:
                logs.update(one.measures())
        super().log(logs, start_time)

    # -- the learning rate, and optimizers that average weights ------------------------------

    def _get_learning_rate(self) -> float:
        # what is logged is what the step took
        return self._step_size.used(super()._get_learning_rate(), self.optimizer)

    def average_weights(self) -> None:
        """Put a schedule-free optimizer's averaged weights into the model, until it next trains.

        Saving, evaluation and the end of `train` do so; it is for those who look at the model
        between two steps. Other optimizers have none, and nothing happens.
        """
        average = getattr(self.optimizer, "eval", None)
        if callable(average):
            average()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        self.average_weights()
        super().save_model(output_dir, _internal_call)

    def _load_best_model(self) -> None:
        # before, or the optimizer would move the weights that are loaded
        self.average_weights()
        super()._load_best_model()

    def train(self, *args: Any, **kwargs: Any) -> Any:
        result = super().train(*args, **kwargs)
        self.average_weights()
        return result

    # -- the loss --------------------------------------------------------------------------

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
        # the parent counts labels that are not -100, and adds them up over ranks
        if self._further is not None:
            masks = [batch["attention_mask"] != 0 for batch in batch_samples]
            real = [{"labels": torch.where(mask, 0, IGNORE)} for mask in masks]
            self._step_tokens = super()._get_num_items_in_batch(real, device)
        counted = [{"labels": self._counted(batch)} for batch in batch_samples]
        items = super()._get_num_items_in_batch(counted, device)
        if self._step_size.scaling is not None:
            self._step_size.predicted = count_of(items)
        return items

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        aware = self._mask_aware
        # around the backward pass as well, in which checkpointed layers run once more
        with nullcontext() if aware is None else aware.installed():
            return super().training_step(*args, **kwargs)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Weighed cross-entropy summed over predicted tokens, divided by ``num_items_in_batch``.

        Without ``num_items_in_batch`` the divisor is this batch's own number. With
        ``return_outputs`` the head runs everywhere, so that logits keep their shape ``(B, S, V)``.
        """
        counted = self._counted(inputs)
        weights, batch = inputs.get("loss_weights"), inputs
        observers = self._observers if model.training else []
        aware = self._mask_aware if model.training and not return_outputs else None
        labels = self._reachable(self._compared(inputs["labels"], IGNORE), inputs)
        positions = (labels.flatten() != IGNORE).nonzero().squeeze(1)
        targets = labels.flatten().index_select(0, positions)
        # an encoder–decoder makes its decoder's inputs of the labels; its own loss is left alone
        keep = self._kind == "seq2seq" and "decoder_input_ids" not in inputs and aware is None
        ours = _OURS if keep else (*_OURS, "labels")
        inputs = {k: v for k, v in inputs.items() if k not in ours}
        if model.training and self._halves.once("count"):
            self.tokens_seen += int(inputs["attention_mask"].sum())
            self.predicted_tokens += len(positions)
        if weights is not None:
            weights = self._compared(weights, 0).flatten().index_select(0, positions)
        unwrapped = self.accelerator.unwrap_model(model)
        if aware is not None:
            inputs = for_decoder(unwrapped, self._kind, inputs, batch["labels"])
        head = None if aware is None else aware.head
        if aware is not None and head is not None and not observers and self._further is None:
            # nobody asks for logits
            if num_items_in_batch is None:
                divisor = torch.clamp((counted != IGNORE).sum(), min=1)
            else:
                divisor = torch.clamp(torch.as_tensor(num_items_in_batch), min=1)
                if self.args.average_tokens_across_devices:
                    divisor = divisor / self.accelerator.num_processes
            with aware.installed(), aware.autocast(labels.device):
                with head.open(positions, labels.shape):
                    outputs = model(**inputs)
                return head.loss(
                    outputs["logits"],
                    targets,
                    weights=weights,
                    divisor=divisor,
                    label_smoothing=self.args.label_smoothing_factor,
                )[0]
        narrow = (self.predicted_only or head is not None) and not return_outputs
        with ExitStack() as around:
            if aware is not None:
                around.enter_context(aware.installed())
                around.enter_context(aware.autocast(labels.device))
            if narrow:
                around.enter_context(predicted_only(unwrapped, positions, labels.shape))
            outputs = model(**inputs)
        if narrow:
            logits = outputs["logits"].squeeze(0)
        else:
            logits = outputs["logits"].flatten(0, 1).index_select(0, positions)
        single = weights is not None or any(one.wants_losses for one in observers)
        total = functional.cross_entropy(
            logits.float(),
            targets,
            reduction="none" if single else "sum",
            label_smoothing=self.args.label_smoothing_factor,
        )
        losses = total.detach() if single else None
        if weights is not None:
            total = total * weights
        if single:
            total = total.sum()
        # a step in which no token is predicted has the loss 0, not NaN
        if num_items_in_batch is None:
            loss = total / torch.clamp((counted != IGNORE).sum(), min=1)
        else:
            loss = total / torch.clamp(torch.as_tensor(num_items_in_batch), min=1)
            if self.args.average_tokens_across_devices:
                # gradients are averaged over ranks; the divisor counts the tokens of all of them
                loss = loss * self.accelerator.num_processes
        for one in observers if self._halves.once("show") else ():
            one.observe(
                SeenBatch(
                    sample_ids=batch["sample_ids"],
                    attention_mask=batch["attention_mask"],
                    labels=labels,
                    shifted=self._kind == "causal",
                    logits=logits.detach(),
                    losses=losses,
                    loss=loss.detach(),
                    places=TokenPlaces.of(batch),
                )
            )
        if self._further is not None and model.training:
            tokens = None if num_items_in_batch is None else self._step_tokens
            if tokens is not None and self.args.average_tokens_across_devices:
                tokens = tokens / self.accelerator.num_processes
            more = self._further.further_loss(model, inputs, batch, positions, logits, tokens)
            loss = loss + more
        return (loss, outputs) if return_outputs else loss

    def _compared(self, labels: Any, fill: int) -> Any:
        """Labels, or their weights, where the logits stand that they are compared with."""
        return compared(self._kind, labels, fill)

    def _counted(self, batch: Any) -> torch.Tensor:
        """Not -100 at each token that the loss is a mean over."""
        labels, maskable = batch["labels"], batch.get("maskable")
        if maskable is not None:
            labels = torch.where(maskable, 0, IGNORE)
        return self._reachable(self._compared(labels, IGNORE), batch)

    def _reachable(self, labels: Any, batch: Any) -> Any:
        """Labels that are predicted from tokens, where padding is left out."""
        if self._mask_aware is None:
            return labels
        return self._mask_aware.reachable(labels, batch.get("attention_mask"))


class ClockCallback(TrainerCallback):
    """Tells a `MaskingCollator` the epoch, in a plain `Trainer` whose batches carry no clock.

    >>> Trainer(..., data_collator=collator, callbacks=[ClockCallback(collator)])  # doctest: +SKIP
    """

    def __init__(self, collator: MaskingCollator) -> None:
        self.collator = collator

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.collator.set_clock(_epoch_of(state))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.collator.set_clock(0)


class _EpochOfSampler(TrainerCallback):
    """Sets the sampler's epoch itself, since what Accelerate wraps round it may not pass it on."""

    def __init__(self, trainer: MaskingTrainer) -> None:
        # Weak, or the trainer would be in a cycle with its own callback, and a loader that is
        # collected as part of a cycle waits five seconds for each of its persistent workers.
        self.trainer = weakref.ref(trainer)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer = self.trainer()
        if trainer is not None and trainer._sampler is not None:
            trainer._sampler.set_epoch(_epoch_of(state))


def _epoch_of(state: Any) -> int:
    # state.epoch is 2.37 in the third epoch, and 3.0 up to rounding at the start of the fourth
    return int((state.epoch or 0.0) + 1e-6)
