"""From a translation experiment to what its runs read: tokenizers, a table of pairs, test sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.data.pairs import (
    Pair,
    Pairs,
    PairTable,
    Part,
    cached_pair_table,
    read_pairs,
    split_by_source,
    train_pair_tokenizer,
)
from maskwright.data.tokenizer import tokenizer_fingerprint
from maskwright.errors import ConfigError, DataError
from maskwright.lab.model import resolve
from maskwright.lab.text import read_tokenizer
from maskwright.lab.translate.aligned_pairs import AlignedPairs
from maskwright.lab.translate.alignments import read_alignments
from maskwright.lab.translate.config import PairData, Translation
from maskwright.lab.translate.model import MINILM
from maskwright.vocabulary import Vocabulary

# Beside a model whose sides have a tokenizer each.
TARGET_TOKENIZER = "target_tokenizer"
# Shares of the sources that are held out for validation and for testing.
HELD_OUT = 0.01
# Where a corpus is so small that a hundredth of it is no test: as many as are asked for, but no
# more than a tenth of the sources.
_AT_MOST = 10


@dataclass(frozen=True)
class PreparedPairs:
    """What all runs of an experiment share.

    Args:
        tokenizer, target_tokenizer: of the two sides; mostly the same object.
        train: the pairs to train on.
        validation: rows with ``input_ids`` and ``labels``, of the learning curve.
        test: sentences to translate, with all their references.
        test_rows: they and their first references, as rows.
        max_length: tokens of a sentence.
        corpus: where it all came from.
        aligned: ``train`` with word alignments, if a file of them was given.
    """

    tokenizer: Any
    target_tokenizer: Any
    train: PairTable
    validation: Sequence[Any]
    test: Part
    test_rows: Sequence[Any]
    max_length: int
    corpus: Pairs
    aligned: AlignedPairs | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What tells these data from others, in a run's spec."""
        return {
            "corpus": self.corpus.name,
            "tokenizers": [
                tokenizer_fingerprint(one) for one in (self.tokenizer, self.target_tokenizer)
            ],
            "train": {"pairs": len(self.train), "fingerprint": self.train.sources.meta["pairs"]},
            "validation": len(self.validation),
            "test": {"sources": len(self.test.sources), "fingerprint": self.test.fingerprint},
        }

    @property
    def facts(self) -> dict[str, Any]:
        """What the results say of the data and of the baseline."""
        references = [len(several) for several in self.test.references]
        return {
            "data": {
                "name": self.corpus.name,
                "licence": self.corpus.licence,
                "notes": list(self.corpus.notes),
                "pairs": {
                    "train": len(self.train),
                    "validation": len(self.validation),
                    "test": len(self.test.sources),
                },
                "dropped": self.train.dropped,
                "references": float(np.mean(references)),
                "tokens": {
                    "source": int(self.train.source_lengths.sum()),
                    "target": int(self.train.target_lengths.sum()),
                },
                "fingerprint": self.test.fingerprint,
            },
            "vocabulary": {"size": len(self.target_tokenizer)},
            "unigram": {"loss": self._unigram()},
        }

    def _unigram(self) -> float:
        """Loss of guessing test tokens by their frequency in training, add-one smoothed."""
        vocabulary = Vocabulary.from_tokenizer(self.target_tokenizer)
        counts = np.bincount(self.train.targets.tokens.values, minlength=vocabulary.size) + 1.0
        shares = -np.log(counts / counts.sum())
        asked = np.concatenate([np.asarray(row["labels"], np.int64) for row in self.test_rows])
        return float(shares[asked].mean())


def prepare_pairs(
    experiment: Translation, *, progress: bool = True, say: Callable[[str], None] = lambda _: None
) -> PreparedPairs:
    """Reads and divides the pairs, trains the tokenizer and builds the table, or finds both cached.

    Raises:
        DataError: the pairs or their alignments cannot be read, or too few are left.
        VocabularyError: there are alignments, and a tokenizer does not know where tokens are.
    """
    data = experiment.data
    corpus = read_pairs(
        data.source,
        source_column=data.source_column,
        target_column=data.target_column,
        skip_bad=data.skip_bad,
    )
    for note in corpus.notes:
        say(note)
    rows = _of_length(corpus, data.longest_words)
    train, validation, test = _divided(rows, data)
    alignments = None
    if data.alignments is not None:
        alignments = read_alignments(data.alignments, train.pairs, corpus)
    tokenizer, target = _tokenizers(experiment, train, say)
    tables = [
        cached_pair_table(
            part.pairs,
            tokenizer,
            max_length=data.max_length,
            too_long="drop" if data.drop_long else "refuse",
            target_tokenizer=None if target is tokenizer else target,
            progress=progress,
        )
        for part in (train, _one_reference(validation), _one_reference(test))
    ]
    if tables[0].dropped:
        say(f"Pairs longer than {data.max_length} tokens left out: {tables[0].dropped:,}.")
    aligned = None
    if alignments is not None:
        aligned = AlignedPairs(tables[0], alignments, tokenizer, target)
    return PreparedPairs(
        tokenizer, target, tables[0], _rows(tables[1]), test, _rows(tables[2]), data.max_length,
        corpus, aligned,
    )  # fmt: skip


def _of_length(corpus: Pairs, longest: int | None) -> tuple[Pair, ...]:
    if longest is None:
        return corpus.pairs
    kept = tuple(
        pair
        for pair in corpus
        if len(pair.source.split()) <= longest and len(pair.target.split()) <= longest
    )
    if not kept:
        raise DataError(
            f"No pair of {corpus.name} has at most {longest} words on both sides. Raise "
            "data.longest_words, or set it to null."
        )
    return kept


def _divided(rows: tuple[Pair, ...], data: PairData) -> tuple[Part, Part, Part]:
    split = split_by_source(rows, validation=HELD_OUT, test=HELD_OUT)
    wanted = {"validation": data.validation, "test": data.test}
    if any(len(getattr(split, name).sources) < number for name, number in wanted.items()):
        sources = sum(len(part.sources) for part in (split.train, split.validation, split.test))
        most = max(1, sources // _AT_MOST)
        wanted = {name: min(number, most) for name, number in wanted.items()}
        split = split_by_source(rows, **wanted)
    train = split.train
    if data.train is not None:
        if data.train > len(train.sources):
            raise ConfigError(
                f"data.train: {data.train:,} source sentences are asked for, and there are "
                f"{len(train.sources):,}. Leave it out to take them all."
            )
        train = train.draw(data.train)
    return train, *(getattr(split, name).draw(number) for name, number in wanted.items())


def _one_reference(part: Part) -> Part:
    """Each source with its first translation."""
    first = {pair.source: pair for pair in reversed(part.pairs)}
    return Part(part.name, tuple(pair for pair in part.pairs if first[pair.source] is pair))


def _rows(table: PairTable) -> list[dict[str, Any]]:
    numbers = range(len(table))
    rows = table.__getitems__(numbers)
    return [{**row, "sample_id": number} for number, row in zip(numbers, rows, strict=True)]


def _tokenizers(
    experiment: Translation, train: Part, say: Callable[[str], None]
) -> tuple[Any, Any]:
    model, data = experiment.model, experiment.data
    if model.pretrained is not None:
        return tokenizers_in(resolve(model.pretrained))
    # null in the tokenizer means no limit; ours is that of the model
    joint = train_pair_tokenizer(
        train.pairs, data.vocabulary_size, max_length=data.max_length, say=say
    )
    if model.kind == "minilm":
        return read_tokenizer(resolve(MINILM)), joint
    return joint, joint


def tokenizers_in(place: str | Path) -> tuple[Any, Any]:
    """The tokenizers of both sides of a model, in a folder or on the Hub.

    Raises:
        DataError: there is none, or it is damaged.
    """
    tokenizer = read_tokenizer(place)
    own = Path(place) / TARGET_TOKENIZER
    return tokenizer, read_tokenizer(own) if own.is_dir() else tokenizer
