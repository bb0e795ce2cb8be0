"""Where each model looked: cross-attention over one sentence, and what its mask forbade."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from maskwright.errors import ModelError
from maskwright.hf import cross_attention_maps
from maskwright.lab.files import read_json
from maskwright.lab.translate.attached import attach_kept
from maskwright.lab.translate.model import load_seq2seq
from maskwright.lab.translate.preparation import PreparedPairs

# Source tokens of the sentence that is drawn, the end among them.
LENGTHS = range(7, 13)


def attention_maps(prepared: PreparedPairs, jobs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Attention of the last decoder layer, mean over heads, for one test sentence.

    The decoder reads the first reference, so that rows are the same tokens for every model.

    Args:
        jobs: of one seed, by variant.
    """
    rows = prepared.test_rows
    row = next((row for row in rows if len(row["input_ids"]) in LENGTHS), rows[0])
    found = []
    for name, job in jobs.items():
        record = read_json(job.result)
        if record["spec"]["masks"]["decoder"]["mask"] == "cmlm":
            continue  # its rows are not what is read next
        model = load_seq2seq(job.folder)
        attach_kept(model, record["masks"])
        seen = _map(model, row)
        if seen is None:
            continue
        weights, allowed = seen
        found.append(
            {
                "variant": name,
                "source": _pieces(prepared.tokenizer, row["input_ids"]),
                "target": _pieces(prepared.target_tokenizer, row["labels"]),
                "weights": [[round(value, 4) for value in line] for line in weights.tolist()],
                "allowed": None if allowed.all() else allowed.astype(int).tolist(),
            }
        )
    return found


def _map(model: Any, row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """Weights and what is allowed, ``(T, S)``; None of a model whose attention is its own."""
    ids, labels = (torch.tensor([row[name]]) for name in ("input_ids", "labels"))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    try:
        return cross_attention_maps(model, batch).of(0, layer=-1)
    except ModelError:
        return None


def _pieces(tokenizer: Any, ids: list[int]) -> list[str]:
    return [
        token.replace("▁", " ").strip() or "␣" for token in tokenizer.convert_ids_to_tokens(ids)
    ]
