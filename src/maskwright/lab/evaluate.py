"""Scores a saved model again, on the masks that it was judged on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from maskwright.errors import ResultsError
from maskwright.evaluation.heldout import HeldOut
from maskwright.hf import VisibleOnly
from maskwright.hf.visible_only.saved import has_decoder
from maskwright.lab.config import Data, Evaluation
from maskwright.lab.files import read_json
from maskwright.lab.model import load_model, longest_sample
from maskwright.lab.run import RUN_FILE
from maskwright.lab.text import corpus_of, read_tokenizer, table_of
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True)
class Evaluated:
    """Scores of a model; and those recorded with it, if they were made on the same positions."""

    scores: dict[str, float]
    recorded: dict[str, float] | None
    held_out: HeldOut

    @property
    def reproduced(self) -> bool:
        """Whether the recorded scores came out again, to the last bit."""
        return self.recorded is None or self.scores == self.recorded


def evaluate(
    folder: Path,
    *,
    source: str | None = None,
    text_column: str | None = None,
    settings: Evaluation | None = None,
) -> Evaluated:
    """Scores the model in ``folder``.

    Args:
        folder: made by `maskwright.lab.train` or `compare`; or any masked language model with its
            tokenizer, and then ``source`` says on what text.
        source: as for `load_corpus`, or a prepared folder; what the model was evaluated on before,
            unless given.
        text_column: of a tabular ``source``.
        settings: of the evaluation; those of before unless given.

    Returns:
        the scores; with those that were recorded, if both were judged on the same positions.

    Raises:
        ResultsError: there is no such folder; or it has no record of an evaluation, and no source
            was given; or the text has changed since.
        ModelError: its model cannot be loaded, or is not whole.
    """
    if not folder.is_dir():
        raise ResultsError(f"There is no folder {folder}. Name one with a model and its tokenizer.")
    record = _record(folder)
    if record is None and source is None:
        raise ResultsError(
            f"{folder} has no {RUN_FILE} that says what it was evaluated on. Name a text: "
            "--data state-of-the-union, or a file."
        )
    spec: dict[str, Any] = record["spec"] if record is not None else {}
    before = _evaluation(spec)
    tokenizer, model = read_tokenizer(folder), load_model(folder)
    if has_decoder(folder):
        model = VisibleOnly.from_pretrained(folder, model)
    data = Data.model_validate(record["data"]) if record is not None else _data_for(model)
    if source is not None:
        data = data.model_copy(update={"source": source, "text_column": text_column})
    chosen = settings or before
    corpus = corpus_of(data)
    table = table_of(corpus, chosen.split, tokenizer, max_length=data.max_length)
    held_out = HeldOut.build(
        table,
        Vocabulary.from_tokenizer(tokenizer),
        masks=chosen.masks,
        tokens=chosen.tokens,
        batch_size=chosen.batch_size,
    )
    then = spec.get("evaluation", {}).get("fingerprint")
    same = held_out.fingerprint == then
    if record is not None and source is None and chosen == before and not same:
        raise ResultsError(
            f"The held-out text or its masks have changed since {folder} was evaluated "
            f"(fingerprint {held_out.fingerprint}, then {then})."
        )
    with _threads(spec.get("threads", 1)):
        scores = held_out.score(model).mean
    return Evaluated(scores, record["final"] if record is not None and same else None, held_out)


def _record(folder: Path) -> dict[str, Any] | None:
    path = folder / RUN_FILE
    if not path.is_file():
        return None
    record = read_json(path)
    if not isinstance(record, dict) or not {"spec", "data", "final"} <= record.keys():
        raise ResultsError(f"{path} is not the record of a training by maskwright.")
    return record


def _evaluation(spec: dict[str, Any]) -> Evaluation:
    fields = Evaluation.model_fields
    return Evaluation(**{k: v for k, v in spec.get("evaluation", {}).items() if k in fields})


def _data_for(model: Any) -> Data:
    """The usual cut of samples, or a shorter one for a model that takes no more."""
    data, limit = Data(), longest_sample(model)
    length = data.max_length if limit is None else min(limit, data.max_length)
    return data.model_copy(update={"max_length": length})


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """As many as in training: sums in another order would round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
