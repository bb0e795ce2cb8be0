"""Where settings come from: a preset, then a YAML file, then ``--set key=value``; the last wins."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from maskwright.errors import ConfigError, unknown
from maskwright.lab.config import Experiment, parse
from maskwright.lab.policy import Policy

PRESETS = ("quick", "guided", "guided-minilm", "wikitext2-minilm", "mask-aware", "fewer-tokens")
_POLICIES = "policies"  # beside them: policies that any comparison may name


def load(
    *,
    file: Path | None = None,
    preset: str | None = None,
    changes: Iterable[str] = (),
    policies: Iterable[str] | None = None,
    seeds: int | None = None,
) -> Experiment:
    """The experiment that preset, file and changes describe together.

    Args:
        file: a YAML file; with a preset, it changes the preset.
        preset: one of `PRESETS`; ``quick`` unless there is a file.
        changes: ``key=value`` with dots, the value in YAML: ``training.learning_rate=1e-3``. A
            member of a list goes by its name or number: ``regimes.repeated.epochs=5``.
        policies: keep only these of the policies; or take them from ``presets/policies.yaml``,
            where the settings have none of the name.
        seeds: use the seeds ``0 … seeds - 1``.

    Raises:
        ConfigError: a name is unknown, the file cannot be read, or the schema is broken.
    """
    settings = gather(PRESETS, file=file, preset=preset, changes=changes, seeds=seeds)
    if policies is not None:
        settings = _only(settings, list(policies))
    return parse(settings)


def gather(
    presets: Sequence[str],
    *,
    file: Path | None = None,
    preset: str | None = None,
    changes: Iterable[str] = (),
    seeds: int | None = None,
) -> dict[str, Any]:
    """What preset, file and changes say together, before it is checked; of any schema.

    Args:
        presets: those that there are; the first is taken if there is no file.
        others: as for `load`.

    Raises:
        ConfigError: the preset is unknown, or the file cannot be read.
    """
    settings: dict[str, Any] = {}
    if preset is not None or file is None:
        settings = read_preset(preset or presets[0], presets)
    if file is not None:
        settings = merge(settings, _read(file))
    for change in changes:
        settings = merge(settings, _change(change))
    if seeds is not None:
        if seeds < 1:
            raise ConfigError(f"--seeds counts seeds and must be at least 1, got {seeds}.")
        settings["seeds"] = list(range(seeds))
    return settings


def read_preset(name: str, presets: Sequence[str] = PRESETS) -> dict[str, Any]:
    """The settings of a preset."""
    if name not in presets:
        raise ConfigError(unknown("preset", name, presets))
    return _packaged(name)


def known_policies() -> dict[str, Policy]:
    """The policies that any experiment may name."""
    return {name: Policy.model_validate(given) for name, given in _packaged(_POLICIES).items()}


def _packaged(name: str) -> dict[str, Any]:
    text = resources.files("maskwright.lab").joinpath(f"presets/{name}.yaml").read_text("utf-8")
    return yaml.safe_load(text)


def merge(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``settings`` with ``changes`` written over them, section by section.

    Over a list, a section names members by their ``name`` or by their number from 0; a list is
    replaced by a list.

    Raises:
        ConfigError: a list has no such member.
    """
    merged = dict(settings)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            value = merge(old, value)
        elif isinstance(old, list) and isinstance(value, dict):
            value = _merge_list(key, old, value)
        merged[key] = value
    return merged


def _merge_list(key: str, members: list[Any], changes: dict[str, Any]) -> list[Any]:
    places = {str(number): number for number in range(len(members))}
    places |= {
        str(m["name"]): n for n, m in enumerate(members) if isinstance(m, dict) and "name" in m
    }
    merged = list(members)
    for name, value in changes.items():
        if str(name) not in places:
            raise ConfigError(unknown(f"member of {key}", name, places))
        place = places[str(name)]
        both = isinstance(merged[place], dict) and isinstance(value, dict)
        merged[place] = merge(merged[place], value) if both else value
    return merged


def _read(file: Path) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"The experiment {file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"The experiment {file} is not text in UTF-8.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"The experiment {file} is not YAML: {_where(error)}.") from None
    if settings is None:
        raise ConfigError(f"The experiment {file} is empty. Start from a preset: --preset quick")
    if not isinstance(settings, dict):
        raise ConfigError(f"The experiment {file} must be a YAML mapping of settings.")
    return settings


def _change(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set takes key=value, got {text!r}.")
    try:
        nested: Any = _number(yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {key}: the value is not YAML: {_where(error)}.") from None
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return nested


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return problem if mark is None else f"{problem}, in line {mark.line + 1}"


def _number(value: Any) -> Any:
    # YAML 1.1 wants a dot and a sign in 1.0e-3, and reads 1e-3 as a string
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


def _only(settings: dict[str, Any], names: list[str]) -> dict[str, Any]:
    known = settings.get("policies")
    if not isinstance(known, dict):
        known = {}
    known = {**_packaged(_POLICIES), **known}
    for name in names:
        if name not in known:
            raise ConfigError(unknown("policy", name, known))
    kept = {name: known[name] for name in names}
    reference = settings.get("reference", "dynamic")
    return {
        **settings,
        "policies": kept,
        "reference": reference if reference in kept else names[0],
    }
