"""Every exception of maskwright.

    MaskwrightError
    ├── ConfigError          a setting is unknown or has a value outside its rule
    │   ├── PolicyError      a masking policy is contradictory or unknown
    │   ├── PatternError     an attention pattern is malformed, or cannot be read from its source
    │   └── ScheduleError    a schedule is malformed, or needs a clock that it was not given
    ├── BatchError           a batch does not have the form that was asked for
    │   ├── SampleIdError    a batch came without sample ids
    │   └── AxisError        an attention axis does not fit its tensors, its pattern or its partner
    ├── VocabularyError      a tokenizer lacks what masking needs
    ├── DataError            a corpus cannot be read, or has nothing in it
    │   └── CacheError       a cached file is not what it says it is
    ├── ModelError           a model cannot be used in the way that was asked for
    ├── TrainingError        training cannot go on as it is; what it saved is whole
    ├── BackendError         an attention backend cannot do what was asked of it, here
    ├── ResultsError         a results file cannot be read
    ├── SaveError            something could not be written; nothing was left half-written
    └── MissingExtra         an optional dependency is not installed

One warning: EmptyRowsWarning, where a pattern leaves a query with no key to attend to.

Each message says what was wrong, where, the rule, and the remedy.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MaskwrightError(Exception):
    """The root: catch this to catch everything that maskwright raises on purpose."""


class ConfigError(MaskwrightError, ValueError):
    """A setting is unknown or has a value outside its rule."""


class PolicyError(ConfigError):
    """A masking policy is contradictory, unknown, or not bound to a vocabulary."""


class PatternError(ConfigError):
    """An attention pattern is malformed, or cannot be read from its source."""


class ScheduleError(ConfigError):
    """A schedule is malformed, or needs a clock that it was not given."""


class BatchError(MaskwrightError, ValueError):
    """A batch does not have the form that was asked for."""


class SampleIdError(BatchError):
    """A batch came without sample ids, so its masks could not be reproduced."""


class AxisError(BatchError):
    """An attention axis does not fit its tensors, its pattern or its partner."""


class VocabularyError(MaskwrightError, ValueError):
    """A tokenizer lacks what masking needs."""


class DataError(MaskwrightError, ValueError):
    """A corpus cannot be read, or has nothing in it."""


class CacheError(DataError):
    """A cached file is not what it says it is."""


class ModelError(MaskwrightError, ValueError):
    """A model cannot be used in the way that was asked for."""


class TrainingError(MaskwrightError, RuntimeError):
    """Training cannot go on as it is; what it saved is whole."""


class BackendError(MaskwrightError, RuntimeError):
    """An attention backend cannot do what was asked of it, on this machine or at all."""


class EmptyRowsWarning(UserWarning):
    """A pattern leaves a query with no key to attend to: its output is zero, and its gradient."""


class ResultsError(MaskwrightError, ValueError):
    """A results file cannot be read."""


class SaveError(MaskwrightError, OSError):
    """Something could not be written; nothing was left half-written."""


class MissingExtra(MaskwrightError, ImportError):
    """An optional dependency is not installed.

    >>> print(MissingExtra("transformers", "hf"))
    transformers is not installed; it comes with: pip install "maskwright[hf]"
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f'{package} is not installed; it comes with: pip install "maskwright[{extra}]"'
        )
        self.package = package
        self.extra = extra


def unknown(kind: str, name: object, available: Iterable[str]) -> str:
    """The message for a name that is not in a table.

    >>> unknown("policy", "dynamc", ["static", "dynamic"])
    "Unknown policy 'dynamc'. Did you mean 'dynamic'? Available: dynamic, static."
    """
    names = sorted(available)
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"Unknown {kind} {name!r}.{hint} Available: {', '.join(names)}."
