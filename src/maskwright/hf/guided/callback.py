"""Guidance: a callback that keeps the scores which guided masks go by, one training step at a time.

    store = ScoreStore.create(path, lengths)
    collator = MaskingCollator(tokenizer, recipe("attention-guided"), scores=store, carry=True)
    Trainer(…, data_collator=collator, callbacks=[Guidance(store)])

Scores are by-products of the step: no second forward pass, and no change to the loss.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from maskwright.corruption.emit import IGNORE
from maskwright.errors import ConfigError, unknown
from maskwright.guidance import ScoreStore, entropy, margin, token_losses
from maskwright.hf.attachment.seats import Role
from maskwright.hf.guided import checkpoint as guided_checkpoint
from maskwright.hf.guided.attention_probe import AttentionProbe
from maskwright.hf.guided.observer import BatchObserver, SeenBatch
from maskwright.hf.guided.run import GuidedRun, check_run
from maskwright.hf.guided.score_queue import ScoreQueue, barrier
from maskwright.hf.guided.spikes import EVERY, Spikes
from maskwright.hf.language_model import Kind, compared, kind_of

Source = Literal["attention", "loss", "entropy", "margin"]
_SOURCES = ("attention", "loss", "entropy", "margin")
_OURS = ("sample_ids", "clock")
_HOLDER = "_maskwright_guidance"
_LOOKED_AT = 512  # samples of the store that the logged numbers are of


class Guidance(BatchObserver):
    """Keeps the scores of the tokens of each batch, as by-products of its training step.

    For `MaskingTrainer` and for a plain `Trainer`; there it tells the collator the epoch, too, and
    takes what ``carry=True`` adds to batches out of them before the model sees it.

    Args:
        store: of the training samples; the one that the collator reads.
        source: of what the scores are. ``"attention"``: how much a few queries of a layer attend
            to the token. Of predicted tokens only: ``"loss"``; ``"entropy"`` of the prediction;
            ``"margin"`` between the two likeliest tokens (small where undecided: select the low
            end). Each in nats but the margin.
        layers, heads, role: as `AttentionProbe` has them.
        queries: of each sample, that are asked whom they attend to.
        seed: of their choice.
        visible_only: whether attention to a token that was masked is no score of it.
        spike: masks are drawn by chance (those of `Cautious` for tokens without scores) after the
            loss was above so many times its running median; None: never.
        pause: for so many steps.
        checkpoint: the folder to resume from, where it was moved since it was saved.

    Raises (when training begins):
        ConfigError: the run cannot be guided as it is set up.
        ModelError: the model's attention cannot be read.
    """

    def __init__(
        self,
        store: ScoreStore,
        source: Source = "attention",
        *,
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
        role: Role | None = None,
        queries: int | None = 16,
        seed: int = 0,
        visible_only: bool = False,
        spike: float | None = None,
        pause: int = 100,
        checkpoint: str | Path | None = None,
    ) -> None:
        if source not in _SOURCES:
            raise ConfigError(unknown("source of Guidance", source, _SOURCES))
        self.store = store
        self.source: Source = source
        self.visible_only = visible_only
        self.checkpoint = checkpoint
        self.wants_losses = source == "loss"
        self._probing = {
            "layers": layers, "heads": heads, "role": role, "queries": queries, "seed": seed
        }  # fmt: skip
        self._spikes = Spikes(spike, pause)
        self._queue = ScoreQueue(store)
        self._handles: list[Any] = []
        self._model: weakref.ref[Any] | None = None
        self._probe: AttentionProbe | None = None
        self._run: GuidedRun | None = None
        self._step = self._epoch = 0
        self._kind: Kind = "masked"
        self._taken: dict[str, Any] = {}  # of the batch that is in the model
        self._labels: Tensor | None = None  # of the last batch, to be counted when it is logged

    # -- the run ------------------------------------------------------------------------------

    def on_init_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self._hold(model)

    def on_train_begin(
        self,
        args: Any,
        state: Any,
        control: Any,
        model: Any = None,
        train_dataloader: Any = None,
        **_: Any,
    ) -> None:
        self._end()
        run = check_run(args, state, train_dataloader, self.store, self.source, self._spikes)
        self._hold(model)
        if self.source == "attention":
            self._probe = AttentionProbe(model, **self._probing)
        self._kind = kind_of(model)
        self._spikes = Spikes(self._spikes.factor, self._spikes.pause)
        if state.global_step:
            self._spikes.restore(
                guided_checkpoint.restore(state, args, self.store, self.checkpoint)
            )
        guided_checkpoint.sign(state, args.output_dir)
        run.collator.withhold_scores(self._spikes.first, self._spikes.last, self._spikes.epoch)
        barrier()  # a store that ranks share is restored before any of them reads
        self._run = run

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # state.epoch is 2.37 in the third epoch, and 3.0 up to rounding at the start of the fourth
        self._epoch = int((state.epoch or 0.0) + 1e-6)
        if self._run is not None and not self._run.clocked:
            self._run.collator.set_clock(self._epoch)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._step = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % EVERY == 0:
            self._drain()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # before the next epoch reads them, in this process or in another
        self._drain()
        self._queue.settle()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._run is None:
            return
        self._drain()
        if args.should_save:
            guided_checkpoint.save(state, args.output_dir, self.store, self._spikes.state())

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._run is None:
            return
        self._drain()
        self._queue.settle()
        if not self._run.clocked:
            self._run.collator.set_clock(0)
        self._run.collator.withhold_scores(-1, -1, -1)
        self._end()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        # MaskingTrainer has put them in already; a plain Trainer shows logs before it asks
        if logs is None or "loss" not in logs or "guidance/scored" in logs:
            return
        found = self.measures()
        logs.update(found)
        if state.log_history:
            state.log_history[-1].update(found)

    def detach(self) -> None:
        """Take the hooks off the model; batches with sample ids then do not pass it any more."""
        self._end()
        for handle in self._handles:
            handle.remove()
        self._handles = []
        model = None if self._model is None else self._model()
        if model is not None and getattr(model, _HOLDER, None) is self:
            delattr(model, _HOLDER)

    # -- one batch ----------------------------------------------------------------------------

    def observe(self, seen: SeenBatch) -> None:
        """Take the scores of a batch; `MaskingTrainer`, or our hook on the model, calls it."""
        if self._run is None:
            return
        if self._probe is None:
            scores = self._of_predictions(seen)
        else:
            scores = self._probe.take()
            if self.visible_only:
                hidden = _moved(seen.labels, IGNORE) if seen.shifted else seen.labels
                scores = scores.masked_fill(hidden != IGNORE, torch.nan)
        self._labels = seen.labels
        self._queue.put(self._step, seen.sample_ids, scores, seen.attention_mask, seen.loss)

    def measures(self) -> dict[str, float]:
        """Shares and ages of scores, and how varied the last batch's selection was.

        Of up to 512 samples, spread evenly over the store.
        """
        store = self.store
        ids = np.unique(np.linspace(0, len(store) - 1, min(len(store), _LOOKED_AT)).astype(int))
        ages = store.ages(ids, self._step)
        there = ~np.isnan(store.read(ids).values)  # samples that are not trained on may be empty
        found = {"guidance/scored": float(there.mean()) if len(there) else 0.0}
        if (ages >= 0).any():
            found["guidance/age"] = float(ages[ages >= 0].mean())
        if self._labels is not None:
            chosen = self._labels[self._labels != IGNORE]
            counts = torch.unique(chosen, return_counts=True)[1]
            shares = counts / counts.sum()
            found["guidance/entropy"] = float(torch.special.entr(shares).sum())
        if self._spikes.factor is not None:
            found["guidance/by_chance"] = float(self._by_chance())
        return found

    def _of_predictions(self, seen: SeenBatch) -> Tensor:
        """``(B, S)``, at the tokens that were predicted."""
        if seen.losses is not None and self.source == "loss":
            scores = torch.full(
                seen.labels.shape, torch.nan, dtype=torch.float32, device=seen.labels.device
            )
            scores[seen.labels != IGNORE] = seen.losses.float()
        else:
            assert seen.logits is not None
            probe = {"loss": token_losses, "entropy": entropy, "margin": margin}[self.source]
            scores = probe(seen.logits, seen.labels)
        return _moved(scores, torch.nan) if seen.shifted else scores

    def _by_chance(self) -> bool:
        if self._run is not None and not self._run.clocked:
            return self._epoch == self._spikes.epoch
        return self._spikes.first <= self._step < self._spikes.last

    def _drain(self) -> None:
        if self._run is None:
            return
        for step, loss in self._queue.drain():
            if self._spikes.see(step, self._epoch, loss):
                spikes = self._spikes
                self._run.collator.withhold_scores(spikes.first, spikes.last, spikes.epoch)

    # -- the model ----------------------------------------------------------------------------

    def _hold(self, model: Any) -> None:
        """Hooks on the model itself, inside whatever it is wrapped in."""
        if model is None or getattr(model, _HOLDER, None) is self:
            return
        other = getattr(model, _HOLDER, None)
        if other is not None:  # of a trainer before this one
            other.detach()
        self.detach()
        object.__setattr__(model, _HOLDER, self)
        self._model = weakref.ref(model)
        self._handles = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after, with_kwargs=True, always_call=True),
        ]

    def _before(self, module: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        taken = {name: options[name] for name in _OURS if name in options}
        options = {name: value for name, value in options.items() if name not in taken}
        self._taken = taken
        if self._trains(module) and self._probe is not None:
            mask = options["attention_mask"]
            target = options.get("decoder_attention_mask")
            if target is None and self._kind == "seq2seq":
                target = mask  # in-place emits: the target is as long as the source
            self._probe.open(self._step, mask, target)
        return inputs, options

    def _after(
        self, module: Any, _inputs: tuple[Any, ...], options: dict[str, Any], output: Any
    ) -> None:
        if self._probe is not None:
            self._probe.close()
        taken, self._taken = self._taken, {}
        if not self._trains(module) or output is None or "sample_ids" not in taken:
            return  # MaskingTrainer shows its batches itself
        if options.get("labels") is None:
            raise ConfigError(
                "Guidance needs the labels, and the Trainer kept them from the model "
                "(label_smoothing_factor, or a loss function of its own). Use MaskingTrainer."
            )
        loss = output.get("loss")
        self.observe(
            SeenBatch(
                sample_ids=taken["sample_ids"],
                attention_mask=options["attention_mask"],
                labels=compared(self._kind, options["labels"], IGNORE),
                shifted=self._kind == "causal",
                logits=output["logits"].detach(),
                losses=None,
                loss=None if loss is None else loss.detach(),
            )
        )

    def _trains(self, module: Any) -> bool:
        return self._run is not None and module.training and torch.is_grad_enabled()

    def _end(self) -> None:
        self._run = None
        self._queue.clear()
        if self._probe is not None:
            self._probe.remove()
        self._probe = None


def _moved(rows: Tensor, fill: float) -> Tensor:
    """From where the logits of a causal model stand to the tokens that they are of, ``(B, S)``."""
    return torch.nn.functional.pad(rows[..., :-1], (1, 0), value=fill)
