"""Data sets of the Hugging Face Hub, or in its folder layout, through `datasets`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskwright.errors import DataError, MissingExtra, unknown

_ALIASES = {"dev": "validation", "val": "validation", "valid": "validation", "eval": "validation"}


def load_hub(name: str, column: str) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """Documents by split, and notes.

    Args:
        name: ``NAME``, ``OWNER/NAME``, either with ``/CONFIG`` after it, or a local folder.
            ``A/B`` is tried as owner and name first, then as name and configuration.
        column: the text column.

    Raises:
        DataError: there is no such data set, configuration or column, or the network fails.
    """
    try:
        import datasets
    except ImportError:
        raise MissingExtra("datasets", "lab") from None
    loaded = _load(datasets, name)
    splits: dict[str, list[str]] = {}
    ignored = []
    for split, rows in loaded.items():
        known = _ALIASES.get(str(split), str(split))
        if known not in ("train", "validation", "test"):
            ignored.append(str(split))
            continue
        if column not in rows.column_names:
            message = unknown("column", column, rows.column_names)
            raise DataError(f"hf:{name}, split {split}: {message} Choose one with text_column.")
        texts = rows[column]
        wrong = next((type(text) for text in texts if not isinstance(text, str | None)), None)
        if wrong is not None:
            raise DataError(
                f"hf:{name}: column {column!r} holds {wrong.__name__}, not text. Choose another "
                "with text_column."
            )
        splits.setdefault(known, []).extend(text or "" for text in texts)
    if not splits:
        raise DataError(
            f"hf:{name} has only the splits {', '.join(ignored)}; train, validation or test is "
            "needed."
        )
    notes = (f"Splits not used: {', '.join(ignored)}.",) if ignored else ()
    return splits, notes


def load_hub_labelled(
    name: str, columns: dict[str, str]
) -> tuple[dict[str, list[tuple[str, str]]], tuple[str, ...]]:
    """Labelled examples, ``train`` and ``test``, and notes.

    The test set is the ``test`` split or, where that has no labels, ``validation``; without either
    there is only ``train``. Numbers of classes become the names that the data set has for them.

    Args:
        name: as for `load_hub`.
        columns: ``text_column`` and ``label_column``.

    Raises:
        DataError: there is no such data set, configuration or column, or the network fails.
    """
    try:
        import datasets
    except ImportError:
        raise MissingExtra("datasets", "lab") from None
    parts: dict[str, list[tuple[str, str]]] = {}
    for split, rows in _load(datasets, name).items():
        for setting, column in columns.items():
            if column not in rows.column_names:
                message = unknown("column", column, rows.column_names)
                raise DataError(f"hf:{name}, split {split}: {message} Choose one with {setting}.")
        text, label = columns.values()
        names = getattr(rows.features[label], "names", None)
        examples = parts.setdefault(_ALIASES.get(str(split), str(split)), [])
        for one, value in zip(rows[text], rows[label], strict=True):
            if not isinstance(one, str | None) or not isinstance(value, str | int | None):
                raise DataError(
                    f"hf:{name}, split {split}: columns {text!r} and {label!r} hold "
                    f"{type(one).__name__} and {type(value).__name__}, not text and the name or "
                    "number of a class. Choose others with text_column and label_column."
                )
            if value is None or value == -1:  # withheld, as in published test sets
                continue
            examples.append((one or "", str(names[value] if names else value)))
    given = {split: examples for split, examples in parts.items() if examples}
    if "train" not in given:
        found = ", ".join(given) or "none"
        raise DataError(f"hf:{name} has no labelled train split; splits with labels: {found}.")
    test = next((split for split in ("test", "validation") if split in given), None)
    if test is None:
        return {"train": given["train"]}, ()
    return {"train": given["train"], "test": given[test]}, (f"Test set: its {test} split.",)


def load_splits(name: str) -> dict[str, Any]:
    """The `datasets.Dataset` of each split that has a known name; their rows stay on the disk.

    Raises:
        DataError: there is no such data set, or the network fails.
    """
    try:
        import datasets
    except ImportError:
        raise MissingExtra("datasets", "lab") from None
    loaded = _load(datasets, name)
    return {_ALIASES.get(str(split), str(split)): rows for split, rows in loaded.items()}


def _load(datasets: Any, name: str) -> Any:
    errors = []
    for path, config in _readings(name):
        try:
            return datasets.load_dataset(path, config)
        # the Hub, its cache, the network and damaged files each raise types of their own
        except Exception as error:
            errors.append(f"{path}{f' ({config})' if config else ''}: {_first_line(error)}")
    raise DataError(
        f"The data set hf:{name} cannot be loaded. {' | '.join(errors)} Check the name "
        "(hf:NAME or hf:NAME/CONFIG) and the network. Offline, give a local folder: hf:PATH, or "
        "a .jsonl, .csv, .parquet or .txt path without hf:."
    )


def _readings(name: str) -> list[tuple[str, str | None]]:
    if Path(name).expanduser().exists():
        return [(str(Path(name).expanduser()), None)]
    parts = name.split("/")
    if len(parts) == 2:
        return [(name, None), (parts[0], parts[1])]
    if len(parts) == 3:
        return [("/".join(parts[:2]), parts[2])]
    return [(name, None)]


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
