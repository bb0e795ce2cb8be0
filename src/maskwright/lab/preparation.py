"""From an experiment to what its runs read: a tokenizer, two token tables, a baseline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskwright.data.sources import Corpus, load_corpus
from maskwright.data.table_cache import cached_table
from maskwright.data.tokenizer import tokenizer_fingerprint, train_bpe
from maskwright.errors import DataError
from maskwright.evaluation.heldout import HeldOut
from maskwright.evaluation.unigram import unigram_scores
from maskwright.lab.config import Data, Experiment
from maskwright.lab.model import first_line, resolve
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True)
class Prepared:
    """What all runs of an experiment share.

    Args:
        tokenizer: the tokenizer.
        train, held_out: the token tables.
        corpus: the text that they were made from.
        evaluation: the held-out samples with their frozen masks.
    """

    tokenizer: Any
    train: Any
    held_out: Any
    corpus: Corpus
    evaluation: HeldOut

    @property
    def facts(self) -> dict[str, Any]:
        """What the results say of the data, the evaluation and the baseline."""
        vocabulary = Vocabulary.from_tokenizer(self.tokenizer)
        split = self.held_out.meta["split"]
        return {
            "vocabulary": {
                "size": vocabulary.size,
                "fingerprint": tokenizer_fingerprint(self.tokenizer),
            },
            "data": {
                "name": self.corpus.name,
                "licence": self.corpus.licence,
                "fingerprint": self.corpus.fingerprint,
                "notes": list(self.corpus.notes),
                "documents": {name: len(docs) for name, docs in self.corpus.splits.items()},
                "tokens": {
                    "train": int(self.train.lengths.sum()),
                    split: int(self.held_out.lengths.sum()),
                },
            },
            "evaluation": {
                "masks": self.evaluation.name,
                "split": split,
                "documents": len(set(self.evaluation.documents.tolist())),
                "predicted": len(self.evaluation.documents),
                "fingerprint": self.evaluation.fingerprint,
            },
            "unigram": unigram_scores(self.train, vocabulary, self.evaluation).mean,
        }


def load_tokenizer(data: Data, corpus: Corpus) -> Any:
    """The tokenizer of an experiment: the one it names, or a BPE trained on its training split."""
    if data.tokenizer is None:
        return train_bpe(
            corpus.documents("train"), data.vocabulary_size, max_length=data.max_length
        )
    return read_tokenizer(resolve(data.tokenizer))


def read_tokenizer(place: str | Path) -> Any:
    """The tokenizer in a folder or on the Hub.

    Raises:
        DataError: there is none, or it is damaged.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(place)
    except Exception as error:  # tokenizers raises bare Exception for a damaged file
        raise DataError(f"No tokenizer can be loaded from {place}: {first_line(error)}") from None


def prepare(
    experiment: Experiment, *, progress: bool = True, say: Callable[[str], None] = lambda _: None
) -> Prepared:
    """Loads the text, trains or loads the tokenizer, and builds the tables or finds them cached."""
    data = experiment.data
    corpus = load_corpus(data.source, text_column=data.text_column)
    for note in corpus.notes:
        say(note)
    tokenizer = load_tokenizer(data, corpus)
    train, held_out = (
        cached_table(corpus, split, tokenizer, max_length=data.max_length, progress=progress)
        for split in ("train", experiment.evaluation.split)
    )
    evaluation = held_out_set(held_out, tokenizer, experiment)
    _check_words(train, tokenizer)
    return Prepared(tokenizer, train, held_out, corpus, evaluation)


def _check_words(table: Any, tokenizer: Any) -> None:
    some = Vocabulary.from_tokenizer(tokenizer).maskable[table.tokens.values].any()
    table.release()
    if not some:
        raise DataError(
            "The training text holds special tokens only, such as [UNK] or [PAD]: there is nothing "
            "to mask. Check data.source, and that data.tokenizer knows its script."
        )


def held_out_set(table: Any, tokenizer: Any, experiment: Experiment) -> HeldOut:
    """The frozen evaluation of an experiment."""
    settings = experiment.evaluation
    return HeldOut.build(
        table,
        Vocabulary.from_tokenizer(tokenizer),
        masks=settings.masks,
        tokens=settings.tokens,
        batch_size=settings.batch_size,
    )


def one_line(path: Path) -> str:
    """A path as people type it: relative where that is shorter."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
