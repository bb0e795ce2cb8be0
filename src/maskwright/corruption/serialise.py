"""A plan as a file: one ``.npz`` of plain arrays, without pickle.

Beside the arrays of the plan and its batch it holds ``meta``, JSON as bytes: the version of the
format, the clock, the names of the arrays, the vocabulary and what the policy says of itself.
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.corruption.act import ACTS, Mixture
from maskwright.corruption.plan import MaskPlan
from maskwright.errors import CacheError, PolicyError
from maskwright.placing import placing
from maskwright.ragged import Ragged
from maskwright.vocabulary import Vocabulary

FORMAT = 1
_COLUMNS = ("word_starts", "protected", "labels", "marks", "scores")
_ALWAYS = ("positions", "actions", "replacements", "rates", "inserts", "inserted")
_OPTIONAL = ("units", "order")


@dataclass(frozen=True)
class SavedMasking:
    """Stands for the policy of a plan that was loaded: what it said of itself, and its ids.

    It draws nothing; to draw again, build the policy again.
    """

    text: str
    refresh: str
    act: Mixture
    arrange: str | None
    emit: str
    vocabulary: Vocabulary
    reads_scores = False

    @property
    def bound(self) -> Vocabulary:
        return self.vocabulary

    def plan(self, *_: object, **__: object) -> MaskPlan:
        """Raises `PolicyError`."""
        raise PolicyError(
            f"A loaded plan knows its policy by name only, and cannot draw again. Build it: {self}."
        )

    def __repr__(self) -> str:
        return self.text


def save(plan: MaskPlan, path: str | os.PathLike[str]) -> Path:
    """Writes a plan to a temporary name beside ``path``, and renames it.

    Raises:
        SaveError: it cannot be written; what stood at ``path`` before still stands.
        PolicyError: its policy is not bound to a vocabulary.
    """
    path = Path(path)
    batch = plan.batch
    arrays: dict[str, np.ndarray] = {
        "tokens": batch.tokens.values,
        "offsets": batch.tokens.offsets,
        "sample_ids": batch.sample_ids,
        **{name: np.asarray(getattr(plan, name)) for name in _ALWAYS},
    }
    for name in _COLUMNS:
        column: Ragged | None = getattr(batch, name)
        if column is not None:
            arrays[name] = column.values
    for name in _OPTIONAL:
        if getattr(plan, name) is not None:
            arrays[name] = getattr(plan, name)
    meta = json.dumps(
        {
            "format": FORMAT,
            "arrays": sorted(arrays),
            "clock": _fields(plan.clock),
            "policy": _policy(plan.masking),
            "vocabulary": _fields(plan.masking.bound),
        }
    )
    arrays["meta"] = np.frombuffer(meta.encode(), np.uint8)
    with placing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(file.fileno())
    return path


def load(path: str | os.PathLike[str]) -> MaskPlan:
    """Reads what `save` wrote.

    Raises:
        CacheError: there is no such file, it is damaged, or it is of another version.
    """
    path = Path(path)
    try:
        # from memory: numpy would leave a damaged file open
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(arrays.pop("meta").tobytes())
        version = meta["format"]
        plan = None if version != FORMAT else _plan(arrays, meta)
    except FileNotFoundError:
        raise CacheError(f"There is no plan at {path}.") from None
    except Exception as error:  # zip, numpy and JSON raise a dozen kinds for a damaged file
        raise CacheError(
            f"{path} is no saved plan, or is damaged ({type(error).__name__}: {error}). Save it "
            "again: plan.save(path)."
        ) from None
    if plan is None:
        raise CacheError(
            f"{path} is a plan in format {version}, and this maskwright reads format {FORMAT}. "
            "Save it again with this version."
        )
    return plan


def _plan(arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> MaskPlan:
    if sorted(arrays) != meta["arrays"]:
        raise ValueError(f"it has the arrays {sorted(arrays)}, not {meta['arrays']}")
    tokens = Ragged(arrays["tokens"], arrays["offsets"])
    columns = {name: tokens.like(arrays[name]) for name in _COLUMNS if name in arrays}
    batch = TokenBatch(tokens, arrays["sample_ids"], **columns)
    said, about = meta["policy"], meta["vocabulary"]
    roles: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in about.items()}
    vocabulary = Vocabulary(**roles)
    masking: Any = SavedMasking(
        text=said["repr"],
        refresh=said["refresh"],
        act=Mixture(tuple((share, ACTS[name]()) for share, name in said["act"])),
        arrange=said["arrange"],
        emit=said["emit"],
        vocabulary=vocabulary,
    )
    parts = {name: arrays[name] for name in (*_ALWAYS, *_OPTIONAL) if name in arrays}
    plan = MaskPlan(batch, masking, Clock(**meta["clock"]), **parts)
    _check(plan)
    return plan


def _check(plan: MaskPlan) -> None:
    """Whatever reads a plan relies on this; a kernel would read outside its arrays."""
    size, many = len(plan.batch.tokens.values), len(plan.positions)
    aligned = [len(part) for part in (plan.actions, plan.replacements) if len(part) != many]
    if aligned or (plan.units is not None and len(plan.units) != many):
        raise ValueError(f"positions, actions, replacements and units are not all {many} long")
    if many and (plan.positions[0] < 0 or plan.positions[-1] >= size):
        raise ValueError(f"positions are outside 0 … {size - 1}")
    if (np.diff(plan.positions) <= 0).any():
        raise ValueError("positions do not rise")
    if len(plan.inserts) != len(plan.inserted):
        raise ValueError("inserts and inserted are not equally long")
    if plan.order is not None and not np.array_equal(np.sort(plan.order), np.arange(size)):
        raise ValueError("order is no permutation of the tokens")


def _policy(masking: Any) -> dict[str, Any]:
    arrange = getattr(masking, "arrange", None)
    return {
        "repr": repr(masking),
        "refresh": str(masking.refresh),
        "act": [(share, str(act)) for share, act in masking.act.parts],
        "arrange": None if arrange is None else str(arrange),
        "emit": str(masking.emit),
    }


def _fields(value: Any) -> dict[str, Any]:
    found = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    # a table of the vocabulary's size serves to draw, which a saved plan does not
    return {name: part for name, part in found.items() if not isinstance(part, np.ndarray)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(member) for member in value]
    return value.item() if isinstance(value, np.generic) else value
