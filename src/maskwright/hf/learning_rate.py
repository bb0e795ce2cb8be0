"""A learning rate that follows the number of tokens that a step predicts.

    MaskingTrainer(…, lr="per-predicted-token")
    MaskingTrainer(…, lr=PerPredictedToken(reference=4_000, power=0.5))

The loss is a mean over the predicted tokens, so their number does not change what the gradient is
on average. It changes its noise: the covariance of a mean over ``n`` tokens falls as ``1 / n``. A
run whose mask rate goes down, or whose guidance selects fewer tokens, therefore takes noisier steps
at the same learning rate. What keeps the noise of the run as it was is a learning rate in
proportion to ``n`` under SGD ("Accurate, large minibatch SGD", 1706.02677), and to its square root
under Adam and RMSprop, which divide the gradient by its own size, noise included ("On the SDEs and
scaling rules for adaptive gradient algorithms", 2205.10287).

Both are rules for gradients that are mostly noise and for tokens that say different things. Tokens
of one sample are alike, so the noise falls more slowly than ``1 / n``; and Adam's mean square
follows ``n`` over some ``1 / (1 - beta2)`` steps, so where ``n`` jumps from step to step the root
is the careful half of the rule. The betas and epsilon, which 2205.10287 scales too, are left alone.
A higher mask rate is also a harder task; no rule here is about that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import TrainerCallback

from maskwright.errors import ConfigError, unknown

PER_PREDICTED_TOKEN = "per-predicted-token"
_KEY = "maskwright.PerPredictedToken"  # among the states of callbacks in trainer_state.json
# By the name of the optimizer, or of one that it is a kind of.
_POWERS = {
    "sgd": 1.0,
    "adam": 0.5, "rmsprop": 0.5, "adagrad": 0.5, "adafactor": 0.5, "prodigy": 0.5,
}  # fmt: skip


@dataclass(frozen=True)
class PerPredictedToken:
    """The scheduler's learning rate times ``(predicted / reference) ** power``.

    ``predicted`` counts what the loss of the step is a mean over, in all micro-batches and ranks:
    predicted tokens, or under masked diffusion those that might have been masked.

    Args:
        reference: the number of tokens that the learning rate was chosen for; unless given, that of
            the first step of the run that predicts any, which checkpoints keep. Give it where the
            run begins unlike the rest of it, as guided masks do.
        power: 1 under SGD and 1/2 under Adam and its kin, unless given.
        bound: the factor stays from ``1 / bound`` to ``bound``, so that no freak batch throws the
            weights off; at least 1.

    Raises:
        ConfigError: a setting is outside its rule.

    >>> PerPredictedToken(power=0.5).factor(50, 200, 0.5)
    0.5
    """

    reference: float | None = None
    power: float | None = None
    bound: float = 4.0

    def __post_init__(self) -> None:
        if self.reference is not None and not 0 < self.reference < math.inf:
            raise ConfigError(
                "PerPredictedToken: reference is a number of tokens above 0, got "
                f"{self.reference!r}. Leave it out to take that of the first step."
            )
        if self.power is not None and not 0 <= self.power <= 1:
            raise ConfigError(
                f"PerPredictedToken: power must be from 0 to 1, got {self.power!r}. The rules are "
                "1 for SGD and 0.5 for Adam."
            )
        if not 1 <= self.bound < math.inf:
            raise ConfigError(
                f"PerPredictedToken: bound must be at least 1 and finite, got {self.bound!r}. The "
                "factor stays from 1 / bound to bound."
            )

    def factor(self, predicted: float, reference: float, power: float) -> float:
        """What the learning rate of a step is multiplied with."""
        return min(max((predicted / reference) ** power, 1 / self.bound), self.bound)


Scaling = PerPredictedToken | Literal["per-predicted-token"] | None


def scaling_of(lr: Any) -> PerPredictedToken | None:
    """The rule that ``MaskingTrainer(lr=…)`` names.

    Raises:
        ConfigError: there is none of that name.
    """
    if lr is None or isinstance(lr, PerPredictedToken):
        return lr
    if lr != PER_PREDICTED_TOKEN:
        raise ConfigError(
            unknown("lr of MaskingTrainer", lr, [PER_PREDICTED_TOKEN])
            + " The learning rate itself is TrainingArguments(learning_rate=…)."
        )
    return PerPredictedToken()


def power_of(optimizer: Any) -> float:
    """The power that goes with an optimizer.

    Raises:
        ConfigError: no rule is known for it.
    """
    while hasattr(optimizer, "optimizer"):  # what Accelerate wraps round it
        optimizer = optimizer.optimizer
    names = [kind.__name__.lower() for kind in type(optimizer).__mro__]
    for name in names:
        for part, power in _POWERS.items():
            if part in name:
                return power
    raise ConfigError(
        f"No rule is known for how the learning rate of {type(optimizer).__name__} goes with the "
        "number of predicted tokens. Say it: lr=PerPredictedToken(power=…), 1 for steps in "
        "proportion to the gradient, 0.5 for steps that are divided by its size."
    )


class StepSize(TrainerCallback):
    """Scales the learning rate while the optimizer takes a step, and knows what it was.

    Schedulers, and whoever looks between two steps, find their own rate.

    Args:
        scaling: None: rates are left alone.

    Attributes:
        predicted: tokens of the step that is on; the trainer writes it.
        factor: of that step.
    """

    def __init__(self, scaling: PerPredictedToken | None) -> None:
        self.scaling = scaling
        self.predicted: float | None = None
        self.factor = 1.0
        self._power = 1.0
        self._reference: float | None = None
        self._kept: list[Any] = []
        self._own: float | None = None  # an optimizer's own estimate or warm-up

    def on_train_begin(
        self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any
    ) -> None:
        self.factor, self.predicted, self._own = 1.0, None, None
        if self.scaling is None:
            return
        _check_run(args, optimizer)
        given = self.scaling.power
        self._power = power_of(optimizer) if given is None else given
        known = state.stateful_callbacks.get(_KEY)
        if self.scaling.reference is None and known is None and state.global_step:
            raise ConfigError(
                f"The checkpoint of step {state.global_step} is of a run whose learning rate did "
                "not follow its predicted tokens, so their number at its start is not known. Give "
                "it: lr=PerPredictedToken(reference=…)."
            )
        self._reference = self.scaling.reference
        if self._reference is None and known is not None:
            self._reference = known["reference"]

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.scaling is None or self.predicted is None:
            return
        if self._reference is None:
            if not self.predicted:
                return
            self._reference = self.predicted
            state.stateful_callbacks[_KEY] = {"reference": self._reference}
        self.factor = self.scaling.factor(self.predicted, self._reference, self._power)

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any
    ) -> None:
        groups = optimizer.param_groups
        # Prodigy's estimate of the step size, before this step moves it
        self._own = groups[0].get("d") if "d0" in groups[0] else None
        if self.factor != 1:
            self._kept = [group["lr"] for group in groups]
            for group in groups:
                group["lr"] = group["lr"] * self.factor

    def on_optimizer_step(
        self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any
    ) -> None:
        for group, rate in zip(optimizer.param_groups, self._kept, strict=False):
            group["lr"] = rate
        self._kept = []

    def used(self, scheduled: float, optimizer: Any) -> float:
        """The learning rate of the last step, where the scheduler's was ``scheduled``.

        With Prodigy it is its estimate times that; with schedule-free optimizers, what their own
        warm-up made of it.
        """
        groups = getattr(optimizer, "param_groups", None) or [{}]
        if "scheduled_lr" in groups[0] and groups[0].get("k"):
            return float(groups[0]["scheduled_lr"])
        return scheduled * self.factor * (1.0 if self._own is None else float(self._own))


def _check_run(args: Any, optimizer: Any) -> None:
    name = "DeepSpeed" if args.deepspeed else str(getattr(args.optim, "value", args.optim))
    if args.deepspeed or name.endswith("layerwise") or not getattr(optimizer, "param_groups", None):
        raise ConfigError(
            f"The learning rate cannot follow the predicted tokens under {name}, which takes its "
            "steps out of the Trainer's sight. Use another optimizer, or leave lr= out."
        )
    if args.world_size > 1 and not args.average_tokens_across_devices:
        raise ConfigError(
            "Ranks must agree on how many tokens a step predicts: set "
            "average_tokens_across_devices=True, or leave lr= out."
        )


def count_of(items: Any) -> float | None:
    """The number in what the Trainer calls ``num_items_in_batch``; None without one."""
    return None if items is None else float(torch.as_tensor(items).flatten()[0])
