"""LearnedMasking: a masking policy that learns beside the model, from what its masks brought."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, Literal

import numpy as np

from maskwright import randomness
from maskwright.corruption.emit import IGNORE
from maskwright.errors import BatchError, ConfigError, unknown
from maskwright.guidance import ScoreStore, token_losses
from maskwright.guidance.learned import FrozenPolicy, read_state, write_state
from maskwright.guidance.policy_gradient import PolicyGradient, difficulty, learning_progress
from maskwright.hf.collator import MaskingCollator
from maskwright.hf.guided.learnable import check_learnable
from maskwright.hf.guided.look import Look, of_step
from maskwright.hf.guided.observer import BatchObserver, SeenBatch
from maskwright.ragged import Ragged

Reward = Literal["learning_progress", "difficulty"]
NAME = "learned.maskwright"
_REWARDS = ("learning_progress", "difficulty")
_KEY = "maskwright.LearnedMasking"  # among the states of callbacks in trainer_state.json
_STREAM = 0x1EA4
_REMEDY = "Resume from another checkpoint."


class LearnedMasking(BatchObserver):
    """Trains a `LearnedPolicy` on the masks of a run; new weights draw from the next epoch on.

    For `MaskingTrainer`, with ``MaskingCollator(…, scores=reader)`` and the policy
    ``Masking(select=Weighted(), …)``, whose ``temperature`` (above 0) and ``end`` may be others. It
    has a backward pass and an optimizer of its own, on the CPU, in one of ``every`` steps and there
    on ``share`` of the samples.

    On several ranks each takes the same update from the masks and rewards of all: their policies
    are the same, bit for bit on machines and numbers of threads alike, and those of one process
    with the same global batches, up to the rounding of losses. The update is not shared out, so
    with many ranks lower ``share``.

    Args:
        reader: the weights of the training samples, and the policy behind them. Its tokens are
            those that the collator gets; where samples have ``special_tokens_mask`` or labels of
            -100 of their own, as ``protected`` of its table.
        reward: ``"learning_progress"``: by how much the loss of a sample's predicted tokens fell
            since they were predicted last; ``"difficulty"``: their loss.
        store: of losses, for ``"learning_progress"``; ``Guidance(store, source="loss")`` writes it.
        every: steps from one look to the next.
        share: of a step's samples that is looked at, chosen by a hash of ``seed`` and the step.
        bound: of each token's part in the reward, in nats.
        seed: of that choice.
        checkpoint: the folder to resume from, where it was moved since it was saved.
        settings: of `PolicyGradient`: ``learning_rate``, ``entropy``, ``pull``, ``clip``,
            ``momentum``.

    Raises:
        ConfigError: a setting is outside its rule; when training begins: the run cannot learn a
            policy as it is set up.
    """

    wants_losses = True

    def __init__(
        self,
        reader: FrozenPolicy,
        reward: Reward = "learning_progress",
        *,
        store: ScoreStore | None = None,
        every: int = 4,
        share: float = 1.0,
        bound: float = 5.0,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        **settings: float,
    ) -> None:
        if reward not in _REWARDS:
            raise ConfigError(unknown("reward of LearnedMasking", reward, _REWARDS))
        if reward == "learning_progress" and store is None:
            raise ConfigError(
                "LearnedMasking measures learning progress by the losses of the last visit: give "
                'store=… and train with Guidance(store, source="loss"), too.'
            )
        if every < 1 or not 0 < share <= 1 or not bound > 0:
            raise ConfigError(
                "LearnedMasking: every must be at least 1, share above 0 and at most 1, bound "
                f"above 0; got {every}, {share} and {bound}."
            )
        self.reader = reader
        self.reward: Reward = reward
        self.store = store
        self.every, self.share, self.bound, self.seed = every, share, bound, seed
        self.checkpoint = checkpoint
        self.learner = PolicyGradient(reader.policy, **settings)
        self._collator: MaskingCollator | None = None
        self._step = self._epoch = 0
        self._shown = False
        self._measures: dict[str, float] = {}
        self._looks: list[Look] = []  # of this step
        self._power = 1.0

    # -- the run ------------------------------------------------------------------------------

    def on_train_begin(
        self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any
    ) -> None:
        self._collator, self._looks = None, []
        self._power = check_learnable(args, train_dataloader.collate_fn, self.reader)
        epoch = _epoch_of(state)
        self._epoch = epoch
        if state.global_step:
            self._restore(args, state)
        known = state.stateful_callbacks.get(_KEY) or {"run": secrets.token_hex(8)}
        folder = str(Path(args.output_dir).absolute())
        state.stateful_callbacks[_KEY] = {"run": known["run"], "output_dir": folder}
        self._turn(epoch)  # a checkpoint of an epoch's last step is older than its end
        self._collator = train_dataloader.collate_fn
        self._shown = False

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._collator is None or self.store is None or not _epoch_of(state):
            return
        if not self.store.visits(np.arange(len(self.store))).any():
            raise ConfigError(
                f"Nothing writes losses into {self.store.path}, so there is no learning progress: "
                'add the callback Guidance(store, source="loss").'
            )

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._step = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._collator is not None and not self._shown:
            raise ConfigError("LearnedMasking sees batches under MaskingTrainer only. Use it.")
        if self._collator is not None and self._step % self.every == 0:
            self._learn()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._collator is not None:
            self._turn(_epoch_of(state))

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._collator is None or not args.should_save:
            return
        path = _checkpoint(args.output_dir, state) / NAME
        own = {"epoch": self._epoch, "measures": self._measures}
        write_state(path, _identity(state), {**own, **self.learner.state()})

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._collator is not None:
            self.reader.policy.publish()
        self._collator = None

    def _turn(self, epoch: int) -> None:
        """Between two epochs no worker reads, so all masks of one are by one policy."""
        if epoch != self._epoch:
            self.reader.policy.publish()
            self._epoch = epoch

    # -- one batch ----------------------------------------------------------------------------

    def observe(self, seen: SeenBatch) -> None:
        """Keep what a batch brought until its step is over; `MaskingTrainer` calls it."""
        self._shown = True
        if self._collator is None or self._step % self.every:
            return
        ids = seen.sample_ids.cpu().numpy()
        rows = np.flatnonzero(self._looked_at(ids))
        if not len(rows):
            return
        mask = seen.attention_mask.cpu().numpy()[rows] != 0
        chosen = Ragged.from_padded(seen.labels.cpu().numpy()[rows] != IGNORE, mask)
        losses = Ragged.from_padded(self._losses(seen)[rows], mask)
        batch = self.reader.batch(ids[rows])
        if not np.array_equal(batch.tokens.lengths, chosen.lengths):
            raise BatchError(
                f"The reader's samples {ids[rows]} have {batch.tokens.lengths} tokens, those of "
                f"the batch {chosen.lengths}. Give FrozenPolicy the tokens of the training set."
            )
        candidates = self._collator.vocabulary.maskable[batch.tokens.values]
        if batch.protected is not None:
            candidates = candidates & (batch.protected.values == 0)
        if self.reward == "difficulty" or self.store is None:
            rewards = difficulty(losses, self.bound)
        else:
            # what this batch's own losses will change is written after its step
            rewards = learning_progress(losses, self.store.read(ids[rows]), self.bound)
        self._looks.append(
            Look(ids[rows], batch.tokens, candidates, chosen.values, rewards, batch.scores)
        )

    def _learn(self) -> None:
        """From the whole step; every rank comes here, with looks of its own or without."""
        own, self._looks = self._looks, []
        look = of_step(own)
        if look is None:
            return
        found = self.learner.step(
            look.tokens, look.candidates, look.chosen, look.rewards, look.scores, self._power
        )
        self._measures = {**self._measures, **found}

    def measures(self) -> dict[str, float]:
        """The mean reward of the last look, the entropy (nats) of a first draw, and the version."""
        return {**self._measures, "policy/version": float(self.reader.policy.version)}

    def _looked_at(self, ids: np.ndarray) -> np.ndarray:
        key = randomness.run_key(self.seed, _STREAM, self._step)
        words = randomness.sample_keys(key, ids, randomness.PROBE) >> np.uint64(11)
        return words < np.uint64(randomness.threshold(self.share))

    @staticmethod
    def _losses(seen: SeenBatch) -> np.ndarray:
        """``(B, S)``, NaN where nothing was predicted."""
        if seen.losses is None:
            assert seen.logits is not None
            return token_losses(seen.logits, seen.labels).cpu().numpy()
        labels = seen.labels.cpu().numpy()
        out = np.full(labels.shape, np.nan, np.float32)
        out[labels != IGNORE] = seen.losses.float().cpu().numpy()
        return out

    # -- files -------------------------------------------------------------------------------

    def _restore(self, args: Any, state: Any) -> None:
        noted = state.stateful_callbacks.get(_KEY)
        if noted is None:
            raise ConfigError(
                f"The checkpoint of step {state.global_step} is of a run without LearnedMasking. "
                "Start a new run from its weights."
            )
        places = [self.checkpoint, args.resume_from_checkpoint]
        places += [_checkpoint(where, state) for where in (noted["output_dir"], args.output_dir)]
        for place in places:
            if isinstance(place, str | Path) and (Path(place) / NAME).is_file():
                identity, found = read_state(Path(place) / NAME, _REMEDY)
                if identity == _identity(state):
                    self._epoch, self._measures = found["epoch"], found["measures"]
                    self.learner.load_state(found)
                    return
        looked = ", ".join(str(place) for place in dict.fromkeys(places) if place is not None)
        raise ConfigError(
            f"The run resumes at step {state.global_step}, but its checkpoint with {NAME} is not "
            f"in {looked}. If it was moved, say where it is: LearnedMasking(…, checkpoint=folder)."
        )


def _identity(state: Any) -> dict[str, Any]:
    return {"run": state.stateful_callbacks[_KEY]["run"], "step": state.global_step}


def _checkpoint(output_dir: str, state: Any) -> Path:
    return Path(output_dir) / f"checkpoint-{state.global_step}"


def _epoch_of(state: Any) -> int:
    # state.epoch is 2.37 in the third epoch, and 3.0 up to rounding at the start of the fourth
    return int((state.epoch or 0.0) + 1e-6)
