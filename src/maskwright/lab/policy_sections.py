"""The sections of a policy's settings: what it goes by, learns from, or trains besides."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from maskwright.errors import PolicyError
from maskwright.lab.section import Section
from maskwright.schedule import Cosine, Linear, Schedule

Source = Literal["attention", "loss", "entropy", "margin"]
Importance = Literal["loss", "store", "random"]


class RateSchedule(Section):
    """A rate that moves from ``start`` to ``end`` over the run."""

    schedule: Literal["linear", "cosine"] = "linear"
    start: float = Field(ge=0, le=1)
    end: float = Field(ge=0, le=1)

    def build(self) -> Schedule:
        return {"linear": Linear, "cosine": Cosine}[self.schedule](self.start, self.end)


# Which of the two forms of a rate is meant is decided first, so that an error speaks of that one.
FORMS_OF_RATE = ("(number)", "(schedule)")
Rate = Annotated[
    Annotated[float, Tag("(number)")] | Annotated[RateSchedule, Tag("(schedule)")],
    Discriminator(lambda v: FORMS_OF_RATE[isinstance(v, dict | RateSchedule)]),
]


class Guided(Section):
    """The scores that a guided policy goes by: what they are, and how they are kept."""

    source: Source | None = Field(default=None, description="what the recipe is made for")
    decay: float | None = Field(default=None, ge=0, lt=1, description="as `ScoreStore` has it")
    window: int | None = Field(default=None, ge=1, description="in place of decay")
    layers: tuple[int, ...] | None = Field(default=None, description="whose attention counts")
    queries: int = Field(default=16, ge=1, description="of each sample, that are looked at")
    keep: bool = Field(default=True, description="the scores of each epoch, for a replay")

    @model_validator(mode="after")
    def _one_average(self) -> Guided:
        if self.decay is not None and self.window is not None:
            raise PolicyError("guidance takes decay or window, not both: they are two averages.")
        return self


class LearnedWeights(Section):
    """A small network that weighs tokens, and learns beside the model (`LearnedMasking`)."""

    reward: Literal["learning_progress", "difficulty"] = "learning_progress"
    every: int = Field(default=4, ge=1, description="steps from one look to the next")
    share: float = Field(default=1.0, gt=0, le=1, description="of the batch that is looked at")
    learning_rate: float = Field(default=0.01, gt=0, description="of the network")
    entropy: float = Field(default=0.0, ge=0, description="weight of what holds it near chance")
    pull: float = Field(default=0.01, ge=0, description="weight of what keeps tokens in reach")
    bound: float = Field(default=3.0, gt=0, le=20, description="of a logit, both sides")


class LearnedPhrases(Section):
    """The collocations of ``pmi``, learned from the training split (`learn_phrases`).

    From the whole of it, as the tokenizer is, and not from a regime's part: 16,000 tokens hold too
    few repetitions to tell a collocation.
    """

    size: int = Field(default=50_000, ge=1, description="n-grams at most")
    min_count: int = Field(default=10, ge=1)
    longest: int = Field(default=5, ge=2, description="words")
    tokens: int = Field(default=20_000_000, ge=1, description="of the split, its first")


class ReplacedTokens(Section):
    """Replaced token detection beside the masked tokens, by the same model
    (`TiedReplacedTokenDetection`)."""

    weight: float = Field(default=50.0, ge=0, allow_inf_nan=False, description="of its loss")


class VisibleEncoding(Section):
    """An encoder that never computes masked tokens, and a light decoder (`VisibleOnly`)."""

    decoder_layers: int = Field(default=2, ge=1)


class DroppedTokens(Section):
    """Middle layers that run on important tokens only while training (`TokenDropping`)."""

    share: float = Field(default=0.5, gt=0, le=1, description="of the tokens that are kept")
    first: int | None = Field(default=None, ge=0, description="full layers before; half less one")
    last: int = Field(default=1, ge=0, description="full layers at the end")
    importance: Importance = Field(default="loss", description="store: the scores that masks go by")
    beta: float = Field(default=0.995, ge=0, lt=1, description="of the running loss of an id")
