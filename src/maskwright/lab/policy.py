"""A masking policy as settings: the fields of `maskwright.Masking`, or a recipe by its name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field, model_serializer, model_validator

from maskwright.corruption import Above, Cautious, Masking, Mixture, Mlm, Weighted, recipe
from maskwright.corruption.act import ACTS
from maskwright.corruption.phrases import Phrases
from maskwright.errors import PolicyError, unknown
from maskwright.lab.policy_sections import (
    FORMS_OF_RATE,
    DroppedTokens,
    Guided,
    LearnedPhrases,
    LearnedWeights,
    Rate,
    RateSchedule,
    ReplacedTokens,
    Source,
    VisibleEncoding,
)
from maskwright.lab.section import Section

__all__ = ["FORMS_OF_RATE", "Guided", "Policy", "reads_scores"]

# What the scores are that a recipe was made for; attention for the others.
SOURCES: dict[str, Source] = {"loss-guided": "loss"}

# Stands for phrases that are not learned yet; of no vocabulary, so it cannot draw a mask.
_UNLEARNED = Phrases(np.empty(0, np.uint64), 2, "words", 0)


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
    learned: LearnedWeights | None = None
    phrases: LearnedPhrases | None = None
    replaced_tokens: ReplacedTokens | None = None
    visible_only: VisibleEncoding | None = None
    token_dropping: DroppedTokens | None = None
    mask_aware: bool | None = Field(
        default=None,
        description="true: steps leave out padding, too; false: not even logits that nothing is "
        "compared with, as in a plain Trainer",
    )
    description: str = ""

    @model_validator(mode="after")
    def _builds(self) -> Policy:
        masking = self.masking()
        if self.guidance is not None and not reads_scores(masking):
            raise PolicyError(
                f"guidance is given, but {masking} goes by no scores. Leave it out, or name a "
                "guided recipe, such as recipe: attention-guided."
            )
        if self.learned is not None:
            self._check_learned()
        if self.phrases is not None and self.recipe != "pmi":
            raise PolicyError(
                f"phrases are given, but {masking} masks no collocations. Leave them out, or take "
                "recipe: pmi."
            )
        if self.replaced_tokens is not None and reads_scores(masking):
            raise PolicyError(
                f"replaced_tokens runs the model twice a step, and {masking} goes by scores of one "
                "pass: which of them is not settled. Use a policy that goes by no scores."
            )
        if self.replaced_tokens is not None and self.mask_aware:
            raise PolicyError(
                "replaced_tokens looks at logits that mask_aware leaves out. Leave one of them out."
            )
        self._check_fewer_tokens()
        return self

    def _check_fewer_tokens(self) -> None:
        given = ("visible_only", "token_dropping", "replaced_tokens")
        found = [name for name in given if getattr(self, name) is not None]
        if len(found) > 1:
            raise PolicyError(
                f"{' and '.join(found)}: each of them says otherwise what a step runs the model "
                "on. Leave all but one out."
            )
        fewer = self.visible_only or self.token_dropping
        guided = None if fewer is None else self.guided
        if guided is not None and guided.source == "attention":
            raise PolicyError(
                f"{found[0]} leaves tokens out of the layers whose attention is to be read. Use "
                "guidance.source loss, entropy or margin."
            )
        by_store = self.token_dropping is not None and self.token_dropping.importance == "store"
        if by_store and guided is None:
            raise PolicyError(
                "token_dropping.importance: store goes by the scores that masks go by, and "
                f"{self.masking()} goes by none. Name a guided recipe, such as loss-guided, or "
                "take importance: loss."
            )

    def _check_learned(self) -> None:
        if self.recipe is not None:
            raise PolicyError(
                f"learned draws masks by weights that are learned, and recipe: {self.recipe!r} "
                "draws them otherwise. Leave one of them out."
            )
        if self.refresh != "dynamic":
            raise PolicyError(
                f"learned weights change from epoch to epoch, and refresh: {self.refresh!r} would "
                "hold masks. Leave refresh out."
            )
        if self.guidance is not None and self.guidance.source not in (None, "loss"):
            raise PolicyError(
                f"learned goes by losses, not by guidance.source={self.guidance.source!r}. Leave "
                "it out."
            )

    @model_serializer(mode="wrap")
    def _as_given(self, handler: Any) -> dict[str, Any]:
        found: dict[str, Any] = handler(self)
        if self.recipe is not None:  # a field that was not given is the recipe's own
            return {name: value for name, value in found.items() if name in self.model_fields_set}
        return {name: value for name, value in found.items() if value is not None}

    def masking(self, phrases: Phrases | None = None) -> Masking:
        """The policy as a value.

        Args:
            phrases: of ``pmi``, which cannot draw masks without; `maskwright.lab.phrases` has them.
        """
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
            select = {} if self.learned is None else {"select": Weighted()}
            policy: Any = Masking(**select, **given)
        else:
            learned = {"phrases": phrases or _UNLEARNED} if self.recipe == "pmi" else {}
            policy = recipe(self.recipe, **learned)
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
        if self.learned is not None:
            # progress is measured from the last visit, not from an average of visits
            last = 0.0 if settings.decay is None and settings.window is None else settings.decay
            return settings.model_copy(update={"source": "loss", "decay": last})
        source = settings.source or SOURCES.get(self.recipe or "", "attention")
        return settings.model_copy(update={"source": source})

    @property
    def collocations(self) -> LearnedPhrases | None:
        """How the phrases are learned that it masks as one; None where it masks none."""
        return (self.phrases or LearnedPhrases()) if self.recipe == "pmi" else None


def reads_scores(masking: Masking) -> bool:
    """Whether the masks depend on scores of the tokens."""
    return isinstance(masking.select, Above | Weighted | Cautious)
