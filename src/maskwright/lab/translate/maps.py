"""Where each model looked: cross-attention over one sentence, and what its mask forbade."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from maskwright.attention import Axis
from maskwright.attention.pattern import Pattern
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
        model.set_attn_implementation("eager")  # other kernels keep no weights
        attachment = attach_kept(model, record["masks"])
        weights = _weights(model, row)
        if attachment is not None:
            attachment.detach()
        if weights is None:
            continue
        found.append(
            {
                "variant": name,
                "source": _pieces(prepared.tokenizer, row["input_ids"]),
                "target": _pieces(prepared.target_tokenizer, row["labels"]),
                "weights": [[round(value, 4) for value in line] for line in weights.tolist()],
                "allowed": _allowed(record["masks"], *weights.shape),
            }
        )
    return found


def _weights(model: Any, row: Mapping[str, Any]) -> torch.Tensor | None:
    """``(T, S)`` float32; None for a model that does not tell."""
    source, labels = (torch.tensor([row[name]]) for name in ("input_ids", "labels"))
    start = torch.tensor([[model.config.decoder_start_token_id]])
    reads = torch.cat([start, labels[:, :-1]], dim=1)
    with torch.inference_mode():
        outputs = model(
            input_ids=source,
            attention_mask=torch.ones_like(source),
            decoder_input_ids=reads,
            output_attentions=True,
        )
    layers = outputs.get("cross_attentions")
    if not layers or layers[-1] is None:
        return None
    return layers[-1][0].mean(0).float()


def _allowed(kept: Mapping[str, Any], target: int, source: int) -> list[list[int]] | None:
    """1 where some head may attend; None where all may."""
    from maskwright.attention import from_json

    if "cross" not in kept:
        return None
    layers = kept["cross"] if isinstance(kept["cross"], list) else [kept["cross"]]
    pattern = next(from_json(text) for text in reversed(layers) if text is not None)
    assert isinstance(pattern, Pattern)
    mask = pattern.dense(Axis(target), Axis(source))
    return mask.flatten(0, -3).any(0).int().tolist()


def _pieces(tokenizer: Any, ids: list[int]) -> list[str]:
    return [
        token.replace("▁", " ").strip() or "␣" for token in tokenizer.convert_ids_to_tokens(ids)
    ]
