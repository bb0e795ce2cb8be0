"""A `Trainer` whose loss is that of predicted tokens, divided by their number in the whole step."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Trainer

from maskwright.corruption.emit import IGNORE
from maskwright.hf.compute.batch import for_decoder
from maskwright.hf.compute.mask_aware import MaskAwareStep
from maskwright.hf.further_loss import FurtherLoss, need_logits
from maskwright.hf.guided.observer import BatchObserver, SeenBatch
from maskwright.hf.guided.places import PLACES, TokenPlaces
from maskwright.hf.head import predicted_only
from maskwright.hf.language_model import Kind, compared
from maskwright.hf.learning_rate import StepSize, count_of
from maskwright.hf.pairs.scheduled_sampling import SAMPLED, ScheduledSampling
from maskwright.hf.predicted import Predicted
from maskwright.hf.recovery.halves import Halves
from maskwright.hf.token_dropping.dropping import TokenDropping

# What a batch has for us and no model's forward takes.
_OURS = ("sample_ids", "clock", "loss_weights", "maskable", SAMPLED, *PLACES)


class PredictedLoss(Trainer):
    """What `MaskingTrainer` has of losses. It sets the fields below before a first step."""

    predicted_only: bool
    tokens_seen: int
    predicted_tokens: int
    _halves: Halves
    _kind: Kind
    _further: list[FurtherLoss]
    _mask_aware: MaskAwareStep | None
    _sampling: ScheduledSampling | None
    _dropping: TokenDropping | None
    _step_size: StepSize
    _step_tokens: Any = None  # real tokens of a step, which a further loss is a mean over

    @property
    def _observers(self) -> list[BatchObserver]:
        return [one for one in self.callback_handler.callbacks if isinstance(one, BatchObserver)]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            dropping = [] if self._dropping is None else [self._dropping]
            for one in [*self._observers, *self._further, *dropping]:
                logs.update(one.measures())
        super().log(logs, start_time)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        aware, dropping = self._mask_aware, self._dropping
        # around the backward pass as well, in which checkpointed layers run once more
        with (
            nullcontext() if aware is None else aware.installed(),
            nullcontext() if dropping is None else dropping.step(),
        ):
            return super().training_step(*args, **kwargs)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Weighed cross-entropy summed over predicted tokens, divided by ``num_items_in_batch``.

        Without ``num_items_in_batch`` the divisor is this batch's own number. With
        ``return_outputs`` the head runs everywhere, so that logits keep their shape ``(B, S, V)``.
        """
        batch, training = inputs, model.training
        observers = self._observers if training else []
        aware = self._mask_aware if training and not return_outputs else None
        dropping = self._dropping if training else None
        asked = self._asked(batch)
        if dropping is not None:
            dropping.expect(asked.labels, batch["sample_ids"], batch.get("clock"))
        if training and self._halves.once("count"):
            self.tokens_seen += int(_real(batch).sum())
            self.predicted_tokens += len(asked.positions)
        inputs = self._model_inputs(model, batch, aware)
        by_rows = not observers and not need_logits(self._further)
        if aware is not None and aware.head is not None and by_rows:
            loss, losses = self._loss_by_rows(model, inputs, asked, aware, num_items_in_batch)
            outputs = logits = None  # nobody asks for them
        else:
            outputs, logits = self._outputs(model, inputs, asked, aware, narrow=not return_outputs)
            each = any(one.wants_losses for one in observers)
            each |= dropping is not None and dropping.wants_losses
            loss, losses = self._loss_of(logits, asked, each, num_items_in_batch)
        show = self._halves.once("show")
        if dropping is not None and losses is not None and show:
            dropping.see(asked.targets, losses)
        for one in observers if show else ():
            assert logits is not None
            one.observe(
                SeenBatch(
                    sample_ids=batch["sample_ids"],
                    attention_mask=_real(batch),
                    labels=asked.labels,
                    shifted=self._kind == "causal",
                    logits=logits.detach(),
                    losses=losses,
                    loss=loss.detach(),
                    places=TokenPlaces.of(batch),
                )
            )
        if self._further and training:
            tokens = None if num_items_in_batch is None else self._step_tokens
            if tokens is not None and self.args.average_tokens_across_devices:
                tokens = tokens / self.accelerator.num_processes
            for one in self._further:
                loss = loss + one.further_loss(
                    model, inputs, batch, asked.positions, logits, tokens
                )
        return (loss, outputs) if return_outputs else loss

    # -- what is asked, and what the model is given -------------------------------------------

    def _asked(self, batch: dict[str, Any]) -> Predicted:
        weights = batch.get("loss_weights")
        return Predicted.of(
            self._reachable(self._compared(batch["labels"], IGNORE), batch),
            self._counted(batch),
            None if weights is None else self._compared(weights, 0),
        )

    def _model_inputs(
        self, model: Any, batch: dict[str, Any], aware: MaskAwareStep | None
    ) -> dict[str, Any]:
        """What the model is called with."""
        own = self._kind == "seq2seq" and "decoder_input_ids" not in batch
        # an encoder–decoder makes its decoder's inputs of the labels; its own loss is left alone
        ours = _OURS if own and aware is None else (*_OURS, "labels")
        inputs = {name: value for name, value in batch.items() if name not in ours}
        if aware is not None:
            unwrapped = self.accelerator.unwrap_model(model)
            inputs = for_decoder(unwrapped, self._kind, inputs, batch["labels"])
        if self._sampling is None or SAMPLED not in batch or not model.training:
            return inputs
        with ExitStack() as around:
            if aware is not None:
                around.enter_context(aware.installed())
                around.enter_context(aware.autocast(batch["labels"].device))
            unwrapped = self.accelerator.unwrap_model(model)
            seed = cast(Any, self.data_collator).seed
            return self._sampling.resampled(model, unwrapped, inputs, batch, seed)

    # -- the loss, with logits and without ----------------------------------------------------

    def _loss_by_rows(
        self,
        model: Any,
        inputs: dict[str, Any],
        asked: Predicted,
        aware: MaskAwareStep,
        num_items_in_batch: Tensor | int | None,
    ) -> tuple[Tensor, Tensor]:
        """The loss of a few rows of logits at a time, which nobody keeps, and the ``(P,)`` of
        each."""
        head = aware.head
        assert head is not None
        if num_items_in_batch is None:
            divisor = torch.clamp((asked.counted != IGNORE).sum(), min=1)
        else:
            divisor = torch.clamp(torch.as_tensor(num_items_in_batch), min=1)
            if self.args.average_tokens_across_devices:
                divisor = divisor / self.accelerator.num_processes
        with aware.installed(), aware.autocast(asked.labels.device):
            with head.open(asked.positions, asked.shape):
                outputs = model(**inputs)
            return head.loss(
                outputs["logits"],
                asked.targets,
                weights=asked.weights,
                divisor=divisor,
                label_smoothing=self.args.label_smoothing_factor,
            )

    def _outputs(
        self,
        model: Any,
        inputs: dict[str, Any],
        asked: Predicted,
        aware: MaskAwareStep | None,
        *,
        narrow: bool,
    ) -> tuple[Any, Tensor]:
        """What the model gives, and its logits at predicted positions, ``(P, V)``; with ``narrow``
        it computes no others where that is known to work."""
        head = None if aware is None else aware.head
        narrow = narrow and (self.predicted_only or head is not None)
        unwrapped = self.accelerator.unwrap_model(model)
        with ExitStack() as around:
            if aware is not None:
                around.enter_context(aware.installed())
                around.enter_context(aware.autocast(asked.labels.device))
            if narrow:
                around.enter_context(predicted_only(unwrapped, asked.positions, asked.shape))
            outputs = model(**inputs)
        if narrow:
            return outputs, outputs["logits"].squeeze(0)
        return outputs, outputs["logits"].flatten(0, 1).index_select(0, asked.positions)

    def _loss_of(
        self,
        logits: Tensor,
        asked: Predicted,
        each: bool,
        num_items_in_batch: Tensor | int | None,
    ) -> tuple[Tensor, Tensor | None]:
        """The loss of logits ``(P, V)``, and where it was computed the ``(P,)`` of each."""
        single = asked.weights is not None or each
        total = functional.cross_entropy(
            logits.float(),
            asked.targets,
            reduction="none" if single else "sum",
            label_smoothing=self.args.label_smoothing_factor,
        )
        losses = total.detach() if single else None
        if asked.weights is not None:
            total = total * asked.weights
        if single:
            total = total.sum()
        # a step in which no token is predicted has the loss 0, not NaN
        if num_items_in_batch is None:
            return total / torch.clamp((asked.counted != IGNORE).sum(), min=1), losses
        loss = total / torch.clamp(torch.as_tensor(num_items_in_batch), min=1)
        if self.args.average_tokens_across_devices:
            # gradients are averaged over ranks; the divisor counts the tokens of all of them
            loss = loss * self.accelerator.num_processes
        return loss, losses

    # -- what is counted ----------------------------------------------------------------------

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
        # the parent counts labels that are not -100, and adds them up over ranks
        if self._further:
            real = [{"labels": torch.where(_real(one) != 0, 0, IGNORE)} for one in batch_samples]
            self._step_tokens = super()._get_num_items_in_batch(real, device)
        counted = [{"labels": self._counted(batch)} for batch in batch_samples]
        items = super()._get_num_items_in_batch(counted, device)
        if self._step_size.scaling is not None:
            self._step_size.predicted = count_of(items)
        return items

    def _compared(self, labels: Any, fill: int) -> Any:
        """Labels, or their weights, where the logits stand that they are compared with."""
        return compared(self._kind, labels, fill)

    def _counted(self, batch: Any) -> Tensor:
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


def _real(batch: Any) -> Tensor:
    """The mask of real tokens; of an encoder that reads none, those of its decoder."""
    for name in ("attention_mask", "decoder_attention_mask"):
        if name in batch:
            return batch[name]
    return (batch["labels"] != IGNORE).long()
