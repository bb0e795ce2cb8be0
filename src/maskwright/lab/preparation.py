"""From an experiment to what its runs read: a tokenizer, two token tables, a baseline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskwright.data.tokenizer import tokenizer_fingerprint
from maskwright.errors import DataError
from maskwright.evaluation.heldout import HeldOut
from maskwright.evaluation.unigram import unigram_scores
from maskwright.lab.config import Experiment
from maskwright.lab.text import AnyCorpus, corpus_of, table_of, tokenizer_of
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
    corpus: AnyCorpus
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
                "documents": self.corpus.sizes,
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


def prepare(
    experiment: Experiment, *, progress: bool = True, say: Callable[[str], None] = lambda _: None
) -> Prepared:
    """Finds the text, trains or loads the tokenizer, and builds the tables or finds them cached."""
    data = experiment.data
    corpus = corpus_of(data)
    for note in corpus.notes:
        say(note)
    tokenizer = tokenizer_of(data, corpus)
    train, held_out = (
        table_of(corpus, split, tokenizer, max_length=data.max_length, progress=progress)
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
