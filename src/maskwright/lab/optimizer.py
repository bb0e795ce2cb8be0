"""Optimizers by name: what they need of a Trainer, and of the other settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maskwright.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from maskwright.lab.config import Training

_NO_SCHEDULE = "constant_with_warmup"
_FACTOR = (0.1, 10.0)


def fitting(given: Any) -> Any:
    """The `Training` settings that are given, with those that follow from the optimizer.

    Schedule-free takes the place of a schedule. Prodigy finds the step size by itself, and the
    learning rate multiplies it.

    Raises:
        ConfigError: one that is given contradicts the optimizer.
    """
    if not isinstance(given, dict):
        return given
    if given.get("lr_reference") is not None and given.get("lr_scaling", "none") == "none":
        raise ConfigError(
            f"lr_reference: {given['lr_reference']} is of no use while lr_scaling is none. Leave "
            "it out, or set lr_scaling=per-predicted-token."
        )
    if given.get("optimizer") == "schedule-free":
        schedule = given.get("lr_scheduler", _NO_SCHEDULE)
        if schedule != _NO_SCHEDULE:
            raise ConfigError(
                f"optimizer: schedule-free takes the place of lr_scheduler: {schedule}. Leave it "
                f"out, or set lr_scheduler={_NO_SCHEDULE}."
            )
        return {**given, "lr_scheduler": schedule}
    if given.get("optimizer") == "prodigy":
        rate, (low, high) = given.get("learning_rate", 1.0), _FACTOR
        if isinstance(rate, int | float) and not low <= rate <= high:
            raise ConfigError(
                "optimizer: prodigy finds the step size by itself, and learning_rate multiplies "
                f"it: a number from {low:g} to {high:g}, 1 as a rule; got {rate:g}. Leave it out, "
                "or set learning_rate=1."
            )
        return {**given, "learning_rate": rate}
    return given


def arguments_of(training: Training) -> dict[str, Any]:
    """The settings of `transformers.TrainingArguments` that are about steps.

    Raises:
        MissingExtra: the optimizer's package is not installed.
    """
    found: dict[str, Any] = {
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.lr_scheduler,
        "warmup_steps": training.warmup_steps,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
    }
    if training.optimizer == "schedule-free":
        try:
            import schedulefree  # noqa: F401  the Trainer imports it
        except ModuleNotFoundError as error:
            raise MissingExtra("schedulefree", "lab") from error
        # it warms up itself: a scheduler that did so besides would count twice
        found |= {"optim": "schedule_free_adamw", "lr_scheduler_type": "constant"}
    return found


def trainer_of(training: Training) -> dict[str, Any]:
    """What `MaskingTrainer` itself is told about steps.

    Raises:
        MissingExtra: the optimizer's package is not installed.
    """
    from maskwright.hf.learning_rate import PerPredictedToken  # it brings transformers

    scaling = None
    if training.lr_scaling == "per-predicted-token":
        scaling = PerPredictedToken(reference=training.lr_reference)
    found: dict[str, Any] = {"lr": scaling}
    if training.optimizer == "prodigy":
        try:
            from prodigyopt import Prodigy
        except ModuleNotFoundError as error:
            raise MissingExtra("prodigyopt", "lab") from error
        # as its authors advise for a run with a warm-up
        settings = {"use_bias_correction": True, "safeguard_warmup": True}
        found["optimizer_cls_and_kwargs"] = Prodigy, {"lr": training.learning_rate, **settings}
    return found
