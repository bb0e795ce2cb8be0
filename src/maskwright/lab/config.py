"""The configuration of an experiment: one schema, that a YAML file and ``--set`` fill.

An unknown key is an error with a suggestion. What stands here by default is what the quick preset
runs, but for its regimes and policies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import Field, ValidationError, model_validator

from maskwright.errors import ConfigError, unknown
from maskwright.evaluation.masks import evaluation_masking
from maskwright.lab.optimizer import fitting
from maskwright.lab.policy import FORMS_OF_RATE, Policy
from maskwright.lab.section import Section
from maskwright.lab.task import Task, check_tasks


class Data(Section):
    """The text, and how it becomes tokens."""

    source: str = "state-of-the-union"
    text_column: str | None = None
    tokenizer: str | None = Field(
        default=None, description="folder or Hub name; else a BPE is trained"
    )
    vocabulary_size: int = Field(default=512, ge=16, description="of the BPE that is trained")
    max_length: int = Field(
        default=128, ge=4, description="tokens of a sample, special tokens included"
    )


class Model(Section):
    """The encoder: a pretrained one, or a new ModernBERT of the given size.

    In a new one every other layer looks at a window of ``window`` tokens, and rotary positions turn
    fast (``rope_theta``). A small model then learns from its context early; with full attention and
    the usual base of 10,000 it stays near the unigram plateau for the whole of a short run
    (``python -m benchmarks plateau``).
    """

    pretrained: str | None = Field(default=None, description="folder, Hub name or package:minilm")
    layers: int = Field(default=2, ge=1)
    width: int = Field(default=128, ge=8)
    heads: int = Field(default=2, ge=1)
    intermediate: int = Field(default=256, ge=8)
    window: int = Field(default=8, ge=2, description="tokens of local attention, both sides")
    rope_theta: float = Field(default=20.0, gt=0)
    initializer_range: float = Field(default=0.06, gt=0)

    @property
    def name(self) -> str:
        return self.pretrained or f"ModernBERT {self.layers}×{self.width}"


class Training(Section):
    """How the model is trained; the fields mean what they mean in `TrainingArguments`."""

    batch_size: int = Field(default=8, ge=1, description="samples")
    optimizer: Literal["adamw", "schedule-free", "prodigy"] = "adamw"
    learning_rate: float = Field(default=3e-3, gt=0, description="with prodigy a factor, 1")
    lr_scaling: Literal["none", "per-predicted-token"] = Field(
        default="none", description="whether it follows the predicted tokens of a step"
    )
    lr_reference: float | None = Field(
        default=None, gt=0, description="tokens a step that it was chosen for; those of the first"
    )
    lr_scheduler: Literal["constant_with_warmup", "linear", "cosine"] = "linear"
    warmup_steps: int = Field(default=20, ge=0)
    weight_decay: float = Field(default=0.01, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    bf16: bool = Field(default=False, description="forward and backward; weights stay in fp32")
    checkpoint_every: int | None = Field(
        default=None, ge=1, description="steps; to resume inside a run"
    )

    @model_validator(mode="before")
    @classmethod
    def _fit_the_optimizer(cls, given: Any) -> Any:
        return fitting(given)


class Warmup(Section):
    """A stage that all policies of a seed share: they branch from its checkpoint."""

    steps: int = Field(ge=1)
    policy: Policy = Policy(rate=0.3)


class Regime(Section):
    """How much text, and how often it is seen."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str = ""
    explanation: str = ""
    tokens: int = Field(ge=1, description="tokens of training text")
    epochs: float | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_budget(self) -> Regime:
        if (self.epochs is None) == (self.steps is None):
            raise ConfigError(f"Regime {self.name!r} needs either epochs or steps.")
        return self


class Evaluation(Section):
    """What every policy is judged on."""

    masks: str = "random-15"
    split: Literal["validation", "test"] = "validation"
    tokens: int | None = Field(default=24_000, ge=1, description="held-out tokens; null = all")
    every: int = Field(default=50, ge=1, description="steps between two points of a learning curve")
    batch_size: int = Field(default=32, ge=1)

    @model_validator(mode="after")
    def _known(self) -> Evaluation:
        evaluation_masking(self.masks)
        return self

    @classmethod
    def named(cls, masks: str) -> Evaluation:
        """The usual evaluation with other masks."""
        evaluation_masking(masks)
        return cls(masks=masks)


class Experiment(Section):
    """A comparison of masking policies."""

    name: str = "experiment"
    data: Data = Data()
    model: Model = Model()
    training: Training = Training()
    policies: dict[str, Policy]
    reference: str = Field(
        default="dynamic", description="the policy that the others are compared with"
    )
    regimes: tuple[Regime, ...] = Field(min_length=1)
    warmup: Warmup | None = None
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = Field(
        default=(0, 1, 2), min_length=1
    )
    evaluation: Evaluation = Evaluation()
    tasks: tuple[Task, ...] = Field(default=(), description="that encoders are fine-tuned on")
    workers: int = Field(default=2, ge=1, description="runs at a time")
    threads: int = Field(default=1, ge=1, description="threads of one run")

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        for name in self.policies:
            if not re.fullmatch(r"\w[\w.+-]*", name):  # it names a folder
                raise ConfigError(
                    f"policies.{name}: a policy is named with letters, digits, '-', '_', '.' and "
                    f"'+', got {name!r}."
                )
        if self.reference not in self.policies:
            raise ConfigError(unknown("reference policy", self.reference, self.policies))
        names = [regime.name for regime in self.regimes]
        if len(set(names)) < len(names) or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"Regimes {names} and seeds {list(self.seeds)} must differ.")
        check_tasks(self.tasks, self.data.max_length)
        return self


def parse(settings: dict[str, Any]) -> Experiment:
    """Checks settings and makes an `Experiment` of them.

    Raises:
        ConfigError: a key is unknown or a value breaks its rule; the message names the key.
    """
    return checked(Experiment, settings, _MANY)


# Settings that are many sections, by name or by number.
Many = Mapping[str, type[Section]]
_MANY: Many = {"policies": Policy, "regimes": Regime, "tasks": Task}
Schema = TypeVar("Schema", bound=Section)


def checked(schema: type[Schema], settings: dict[str, Any], many: Many) -> Schema:
    """`parse`, for any schema.

    Raises:
        ConfigError: as `parse`.
    """
    try:
        return schema.model_validate(settings)
    except ValidationError as error:
        problems = error.errors()
        # a list whose members are wrong counts as too short besides
        own = [p for p in problems if p["type"] != "too_short" or p["input"] in ([], ())]
        lines = [_explain(problem, schema, many) for problem in own or problems]
        raise ConfigError("\n".join(lines)) from None


_WORDS = {
    "missing": "is missing",
    "model_type": "takes a section of settings",
    "dict_type": "takes a section of settings",
    "tuple_type": "takes a list",
    "too_short": "takes a list of at least one",
}


def _explain(problem: Any, schema: type[Section], many: Many) -> str:
    path = [part for part in problem["loc"] if part not in FORMS_OF_RATE]
    where = ".".join(map(str, path))
    if problem["type"] == "extra_forbidden":
        known = _keys_at(path[:-1], schema, many)
        above = where.rpartition(".")[0]
        names = [f"{above}.{key}" if above else key for key in known]
        return unknown("setting", where, [*names, *_elsewhere(path[-1], schema, many)])
    if problem["type"] == "value_error":  # a message of our own, which gives the value
        message = str(problem["ctx"]["error"])
        return f"{where}: {message}" if where else message
    message = problem["msg"].replace("Input should", "should").replace("String should", "should")
    message = _WORDS.get(problem["type"], message)
    got = "" if problem["type"] == "missing" else f", got {problem['input']!r}"
    return f"{where}: {message}{got}." if got else f"{where} {message}."


def _keys_at(path: list[Any], schema: type[Section], many: Many) -> list[str]:
    """The settings that exist in the section at ``path``."""
    section = schema
    parts = iter(path)
    for part in parts:
        if part in many:
            section = many[part]
            next(parts, None)  # the name of a policy, the number of a regime
        else:
            section = next(_sections_in(section.model_fields[part].annotation))
    return list(section.model_fields)


def _elsewhere(key: Any, schema: type[Section], many: Many) -> list[str]:
    """Where a setting called ``key`` is, for one that was given without its section."""
    return [
        f"{name}.{key}"
        for name, field in schema.model_fields.items()
        if name not in many
        for section in _sections_in(field.annotation)
        if key in section.model_fields
    ]


def _sections_in(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from _sections_in(part)
