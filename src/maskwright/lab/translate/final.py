"""What a trained model is judged by: its test loss, its translations, and how fast it writes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from maskwright.evaluation.translation import average_lagging, bleu_and_chrf
from maskwright.lab.translate.generation import evaluating, translate
from maskwright.lab.translate.masked import Masked
from maskwright.lab.translate.preparation import PreparedPairs
from maskwright.lab.translate.scores import batches_of, score_sentences


def judged(masked: Masked, prepared: PreparedPairs, evaluation: dict[str, Any]) -> dict[str, Any]:
    """The scores of a model on the test sentences, as JSON.

    Returns:
        ``final``: means; ``sentences``: sums of each, of a left-to-right model; ``written``: for
        each way to write, the texts, their scores and their speed. The first way is the main one.
    """
    model, size = masked.model, evaluation["batch_size"]
    found: dict[str, Any] = {"final": {}, "sentences": None}
    batches = batches_of(masked.evaluation_collator, prepared.test_rows, size)
    scores = score_sentences(model, batches, exposure=masked.perplexed)
    if masked.perplexed:
        found["final"] = scores.mean
        assert scores.exposed is not None
        found["sentences"] = {
            "loss": scores.loss.tolist(),
            "exposed": scores.exposed.tolist(),
            "correct": scores.correct.tolist(),
            "count": scores.count.tolist(),
        }
    else:
        found["final"] = {"masked_loss": scores.mean["loss"]}
    found["written"] = _written(masked, prepared, evaluation)
    best = next(iter(found["written"].values()))
    found["final"] |= {name: best[name] for name in ("bleu", "chrf") if name in best}
    return found


def _written(
    masked: Masked, prepared: PreparedPairs, evaluation: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    found = {}
    with evaluating(masked.model):
        for name, write in masked.writers(evaluation).items():
            began, cpu = time.perf_counter(), time.process_time()
            texts = translate(
                write,
                prepared.tokenizer,
                prepared.target_tokenizer,
                prepared.test.sources,
                batch_size=evaluation["batch_size"],
                max_length=prepared.max_length,
                device=next(masked.model.parameters()).device,
            )
            seconds = time.perf_counter() - began
            lengths = _lengths(prepared.target_tokenizer, texts)
            found[name] = {
                **_quality(texts, prepared),
                "texts": texts,
                "seconds": seconds,
                "cpu_seconds": time.process_time() - cpu,
                "tokens_per_second": sum(lengths) / max(seconds, 1e-9),
                **_lagging(masked, prepared, lengths),
            }
    return found


def _quality(texts: list[str], prepared: PreparedPairs) -> dict[str, Any]:
    """BLEU and chrF against all references of a source."""
    found = bleu_and_chrf(texts, prepared.test.references)
    return {**vars(found), "signatures": dict(found.signatures)}


def _lagging(masked: Masked, prepared: PreparedPairs, lengths: list[int]) -> dict[str, float]:
    """Average lagging of a model that waits for ``k`` source tokens; of others nothing."""
    delay = masked.delay
    if delay is None:
        return {}
    sources = _lengths(prepared.tokenizer, prepared.test.sources)
    delays = [
        [min(delay(place), source) for place in range(length)]
        for source, length in zip(sources, lengths, strict=True)
    ]
    return {"lagging": float(np.nanmean(average_lagging(delays, sources, lengths)))}


def _lengths(tokenizer: Any, texts: Any) -> list[int]:
    """Tokens of each text, the end among them."""
    return [len(ids) for ids in tokenizer(list(texts), verbose=False)["input_ids"]]
