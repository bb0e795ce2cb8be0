"""Scores a saved model again, on the masks that it was judged on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from maskwright.data.sources import load_corpus
from maskwright.data.table_cache import cached_table
from maskwright.errors import DataError, ResultsError
from maskwright.evaluation.heldout import HeldOut
from maskwright.lab.config import Data, Evaluation
from maskwright.lab.files import read_json
from maskwright.lab.model import load_model
from maskwright.lab.run import RUN_FILE
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True)
class Evaluated:
    """Scores of a model, and those that were recorded with it, if any."""

    scores: dict[str, float]
    recorded: dict[str, float] | None
    held_out: HeldOut

    @property
    def reproduced(self) -> bool:
        """Whether the recorded scores came out again, to the last bit."""
        return self.recorded is None or self.scores == self.recorded


def evaluate(
    folder: Path, *, source: str | None = None, settings: Evaluation | None = None
) -> Evaluated:
    """Scores the model in ``folder``.

    Args:
        folder: made by `maskwright.lab.train` or `compare`; or any masked language model with its
            tokenizer, and then ``source`` says on what text.
        source: as for `load_corpus`; what the model was evaluated on before, unless given.
        settings: of the evaluation; those of before unless given.

    Raises:
        ResultsError: the folder has no record of an evaluation, and no source was given; or the
            text has changed since.
    """
    record = read_json(folder / RUN_FILE) if (folder / RUN_FILE).is_file() else None
    if record is None and source is None:
        raise ResultsError(
            f"{folder} has no {RUN_FILE} that says what it was evaluated on. Name a text: "
            "--data state-of-the-union, or a file."
        )
    data = Data.model_validate(record["data"]) if record is not None else Data()
    known = record is not None and source is None and settings is None
    spec: dict[str, Any] = record["spec"] if record is not None else {}
    if settings is None:
        fields = Evaluation.model_fields
        settings = Evaluation(
            **{k: v for k, v in spec.get("evaluation", {}).items() if k in fields}
        )
    # sums in another order would round differently
    torch.set_num_threads(spec.get("threads", 1))
    tokenizer = _tokenizer(folder)
    corpus = load_corpus(source or data.source, text_column=data.text_column)
    table = cached_table(corpus, settings.split, tokenizer, max_length=data.max_length)
    held_out = HeldOut.build(
        table,
        Vocabulary.from_tokenizer(tokenizer),
        masks=settings.masks,
        tokens=settings.tokens,
        batch_size=settings.batch_size,
    )
    if known and held_out.fingerprint != spec["evaluation"]["fingerprint"]:
        raise ResultsError(
            f"The held-out text or its masks have changed since {folder} was evaluated "
            f"(fingerprint {held_out.fingerprint}, then {spec['evaluation']['fingerprint']})."
        )
    scores = held_out.score(load_model(folder)).mean
    return Evaluated(scores, record["final"] if known and record else None, held_out)


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise DataError(
            f"No tokenizer can be loaded from {folder}: {str(error).splitlines()[0]}"
        ) from None
