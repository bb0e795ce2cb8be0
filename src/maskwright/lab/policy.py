"""A masking policy as settings: the fields of `maskwright.Masking`, or a recipe by its name."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_serializer, model_validator

from maskwright.corruption import Above, Cautious, Masking, Mixture, Mlm, Weighted, recipe
from maskwright.corruption.act import ACTS
from maskwright.errors import PolicyError, unknown
from maskwright.lab.section import Section
from maskwright.schedule import Cosine, Linear, Schedule

Source = Literal["attention", "loss", "entropy", "margin"]

# What the scores are that a recipe was made for; attention for the others.
SOURCES: dict[str, Source] = {"loss-guided": "loss"}


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


class Policy(Section):
    """A masking policy: the fields of `maskwright.Masking`.

    With a ``recipe``, only the fields that are given are changed in it.
    """

    recipe: str | None = None
    rate: Rate = 0.15
    act: dict[str, float] = Field(default={"mask": 0.8, "random": 0.1, "keep": 0.1})
    refresh: str = "dynamic"
    exact: bool = False
    at_least: int = 0
    start_rate: float | None = Field(
        default=None, ge=0, le=1, description="of tokens that have no score yet"
    )
    guidance: Guided | None = None
    description: str = ""

    @model_validator(mode="after")
    def _builds(self) -> Policy:
        masking = self.masking()
        if self.guidance is not None and not reads_scores(masking):
            raise PolicyError(
                f"guidance is given, but {masking} goes by no scores. Leave it out, or name a "
                "guided recipe, such as recipe: attention-guided."
            )
        return self

    @model_serializer(mode="wrap")
    def _as_given(self, handler: Any) -> dict[str, Any]:
        found: dict[str, Any] = handler(self)
        if self.recipe is not None:  # a field that was not given is the recipe's own
            return {name: value for name, value in found.items() if name in self.model_fields_set}
        return {name: value for name, value in found.items() if value is not None}

    def masking(self) -> Masking:
        """The policy as a value."""
        for name in self.act:
            if name not in ACTS:
                raise PolicyError(unknown("act", name, ACTS))
        given = {
            "rate": self.rate.build() if isinstance(self.rate, RateSchedule) else self.rate,
            "act": Mixture(tuple((share, ACTS[name]()) for name, share in self.act.items())),
            "refresh": self.refresh,
            "exact": self.exact,
            "at_least": self.at_least,
        }
        if self.recipe is None:
            policy: Any = Masking(**given)
        else:
            policy = recipe(self.recipe)
            if not isinstance(policy, Masking) or not isinstance(policy.emit, Mlm):
                raise PolicyError(
                    f"recipe: {self.recipe!r} is not for masked language models in the place of "
                    "their tokens, which is what experiments train."
                )
            changed = self.model_fields_set
            policy = replace(policy, **{k: v for k, v in given.items() if k in changed})
        if self.start_rate is None:
            return policy
        if not isinstance(policy.select, Cautious):
            raise PolicyError(
                f"start_rate is of tokens that have no score yet, and {policy} goes by no scores."
            )
        return replace(policy, select=replace(policy.select, start_rate=self.start_rate))

    @property
    def guided(self) -> Guided | None:
        """How the scores come about that the policy goes by; None where it goes by none."""
        if not reads_scores(self.masking()):
            return None
        settings = self.guidance or Guided()
        source = settings.source or SOURCES.get(self.recipe or "", "attention")
        return settings.model_copy(update={"source": source})


def reads_scores(masking: Masking) -> bool:
    """Whether the masks depend on scores of the tokens."""
    return isinstance(masking.select, Above | Weighted | Cautious)
