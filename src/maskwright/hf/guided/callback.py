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
from typing import Any

import torch
from torch import Tensor

from maskwright.corruption.emit import IGNORE
from maskwright.errors import ConfigError, unknown
from maskwright.guidance import ScoreStore
from maskwright.hf.attachment.seats import Role
from maskwright.hf.guided import checkpoint as guided_checkpoint
from maskwright.hf.guided.attention_probe import AttentionProbe
from maskwright.hf.guided.beside import (
    check_beside,
    holds,
    let_go,
    others_of_run,
    take_hold,
)
from maskwright.hf.guided.coverage import Coverage
from maskwright.hf.guided.measures import measures_of
from maskwright.hf.guided.observer import BatchObserver, SeenBatch
from maskwright.hf.guided.places import PLACES, TokenPlaces, is_read
from maskwright.hf.guided.predictions import SOURCES, Source, at_tokens, scores_of
from maskwright.hf.guided.run import GuidedRun, check_run
from maskwright.hf.guided.score_queue import ScoreQueue, barrier
from maskwright.hf.guided.spikes import EVERY, Spikes
from maskwright.hf.language_model import Kind, compared, kind_of

_OURS = ("sample_ids", "clock", *PLACES)


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
        layers, heads, role: as `AttentionProbe` has them. Where an emit moves tokens, attention to
            what stands for no single token (a sentinel, a marker) is no score of any.
        queries: of each sample, that are asked whom they attend to.
        seed: of their choice.
        visible_only: whether attention to a token that was masked is no score of it.
        spike: masks are drawn by chance (those of `Cautious` for tokens without scores) after the
            loss was above so many times its running median; None: never.
        entropy_floor: the same after the words that steps selected were, in the mean of 64 steps,
            of a lower entropy than this, in nats; None: never.
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
        entropy_floor: float | None = None,
        pause: int = 100,
        checkpoint: str | Path | None = None,
    ) -> None:
        if source not in SOURCES:
            raise ConfigError(unknown("source of Guidance", source, SOURCES))
        self.store = store
        self.source: Source = source
        self.visible_only = visible_only
        self.checkpoint = checkpoint
        self.wants_losses = source == "loss"
        self._probing = {
            "layers": layers, "heads": heads, "role": role, "queries": queries, "seed": seed
        }  # fmt: skip
        self._spikes = Spikes(spike, pause, entropy_floor)
        self._name = "guidance"  # of what is logged
        self._part = ""  # of a checkpoint
        self._state: weakref.ref[Any] | None = None  # of the run that it is in
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
        self._hold(model, state)

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
        others = self._hold(model, state)
        check_beside(self, others, clocked=run.clocked)
        self._name = f"guidance-{self.source}" if others else "guidance"
        self._part = self._name if others else ""
        if self.source == "attention":
            self._probe = AttentionProbe(model, **self._probing, texts=run.texts)
        self._kind = kind_of(model)
        self._spikes = Spikes(self._spikes.factor, self._spikes.pause, self._spikes.floor)
        coverage = self._queue.coverage = Coverage(self.store)
        if state.global_step:
            found = guided_checkpoint.restore(state, args, self.store, self.checkpoint, self._part)
            self._spikes.restore(found)
            coverage.restore(found)
        guided_checkpoint.sign(state, args.output_dir)
        if self.withholds or not others:
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
            coverage = {} if self._queue.coverage is None else self._queue.coverage.state()
            more = {**self._spikes.state(), **coverage}
            guided_checkpoint.save(state, args.output_dir, self.store, more, self._part)

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
        if logs is None or "loss" not in logs or f"{self._name}/scored" in logs:
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
        if model is not None:
            let_go(model, self)

    @property
    def withholds(self) -> bool:
        """Whether a rule may withhold scores."""
        return self._spikes.active

    def run_state(self) -> Any:
        """The trainer's state in the run that the callback was last part of."""
        return None if self._state is None else self._state()

    # -- one batch ----------------------------------------------------------------------------

    def observe(self, seen: SeenBatch) -> None:
        """Take the scores of a batch; `MaskingTrainer`, or our hook on the model, calls it."""
        if self._run is None:
            return
        labels = at_tokens(seen.labels, IGNORE) if seen.shifted else seen.labels
        hidden, mask, places = labels != IGNORE, seen.attention_mask, seen.places
        probe = self._probe
        scores = scores_of(self.source, seen) if probe is None else probe.take()
        if places is not None:
            scores = places.gather(scores, self._slots(places))
            labels, hidden, mask = places.chosen(labels), places.hidden, places.tokens
        elif self._run.moves:
            raise ConfigError(
                f"The batch does not say which of its positions is which token: {', '.join(PLACES)}"
                " of the MaskingCollator are missing. Let what wraps the collator hand them on."
            )
        if probe is not None and self.visible_only:
            scores = scores.masked_fill(hidden, torch.nan)
        self._labels = labels
        # of moved tokens the map says which were selected
        chosen = labels != IGNORE if places is None else places.tokens >= 2
        self._queue.put(self._step, seen.sample_ids, scores, mask, seen.loss, chosen, labels)

    def measures(self) -> dict[str, float]:
        """Shares and ages of scores, and how varied the last batch's selection was."""
        found = measures_of(self.store, self._step, self._labels, self._queue.coverage)
        if self.withholds:
            found["by_chance"] = float(self._by_chance())
        return {f"{self._name}/{name}": value for name, value in found.items()}

    def _slots(self, places: TokenPlaces) -> Tensor:
        """The places of the slots that have scores."""
        if self._probe is None:
            return places.labels
        # an encoder–decoder that makes its decoder's inputs of the labels
        shifts = self._kind == "seq2seq" and self._run is not None and self._run.texts == "both"
        return places.shifted if shifts and self._probe.role == "decoder" else places.inputs

    def _by_chance(self) -> bool:
        if self._run is not None and not self._run.clocked:
            return self._epoch == self._spikes.epoch
        return self._spikes.first <= self._step < self._spikes.last

    def _drain(self) -> None:
        if self._run is None:
            return
        spikes, epoch = self._spikes, self._epoch
        for seen in self._queue.drain(epoch):
            spiked = seen.loss is not None and spikes.see(seen.step, epoch, seen.loss)
            narrow = seen.entropy is not None and spikes.see_entropy(seen.step, epoch, seen.entropy)
            if spiked or narrow:
                self._run.collator.withhold_scores(spikes.first, spikes.last, spikes.epoch)

    # -- the model ----------------------------------------------------------------------------

    def _hold(self, model: Any, state: Any) -> list[Any]:
        """Hooks on the model itself, inside whatever it is wrapped in; gives the callbacks that
        have theirs in the same run."""
        if model is None:
            return []
        self._state = weakref.ref(state)
        others = others_of_run(model, state, self)
        if holds(model, self):
            return others
        self.detach()
        take_hold(model, self)
        self._model = weakref.ref(model)
        self._handles = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after, with_kwargs=True, always_call=True),
        ]
        return others

    def _before(self, module: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        taken = {name: options[name] for name in _OURS if name in options}
        options = {name: value for name, value in options.items() if name not in taken}
        self._taken = taken
        if self._trains(module) and self._probe is not None:
            mask, labels = options.get("attention_mask"), options.get("labels")
            target = options.get("decoder_attention_mask")
            if target is None and self._kind == "seq2seq":
                # in-place emits: the target is as long as the source
                moves = self._run is not None and self._run.moves
                target = is_read(labels) if moves and labels is not None else mask
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
                places=TokenPlaces.of(taken),
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
