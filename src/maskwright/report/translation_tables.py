"""Results of translation as rows of text, for the page and for the terminal alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maskwright.report import formatting
from maskwright.report.tables import Row, estimate, measure

_MEASURES = ("bleu", "chrf", "perplexity", "exposure")


def score_rows(results: Mapping[str, Any]) -> list[Row]:
    """One row per mask: BLEU, chrF, perplexity and exposure on the test sentences.

    A dash stands where something cannot be measured: a model that fills masks has no perplexity of
    whole sentences.
    """
    lags = any("lagging" in way for one in results["variants"] for way in one["written"].values())
    rows = []
    for variant in results["variants"]:
        row = {"mask": str(variant["name"])}
        for metric in _MEASURES:
            title, one = measure(metric)
            found = variant["summary"].get(metric)
            row[title] = formatting.NOT_MEASURED if found is None else estimate(found, one)
        if lags:
            main = next(iter(variant["written"].values()))
            row["lagging"] = formatting.number(main.get("lagging"), 1)
        rows.append(row)
    return rows


def written_rows(results: Mapping[str, Any]) -> list[Row]:
    """One row per mask and way to write: its scores, and how fast it is; means over seeds."""
    return [
        {
            "mask": str(variant["name"]),
            "written": str(name),
            "BLEU": formatting.number(way["bleu"], 1),
            "BLEU, one reference": formatting.number(way["bleu_single"], 1),
            "chrF": formatting.number(way["chrf"], 1),
            "tokens per second": formatting.count(way["tokens_per_second"]),
            "time": formatting.duration(way["seconds"]),
        }
        for variant in results["variants"]
        for name, way in variant["written"].items()
    ]


def cost_rows(results: Mapping[str, Any]) -> list[Row]:
    """One row per mask: what one training run cost, and how fast its model writes."""
    return [
        {
            "mask": str(variant["name"]),
            "training time": formatting.duration(variant["cost"]["seconds"]),
            "processor time": formatting.duration(variant["cost"]["cpu_seconds"]),
            "tokens predicted": formatting.count(variant["cost"]["predicted_tokens"]),
            "tokens per second": formatting.count(variant["cost"]["tokens_per_second"]),
            "writes, tokens per second": formatting.count(
                next(iter(variant["written"].values()))["tokens_per_second"]
            ),
        }
        for variant in results["variants"]
    ]


def bootstrap_rows(results: Mapping[str, Any]) -> list[Row]:
    """One row per mask: the paired bootstrap over sentences, of the first seed alone."""
    rows = []
    for found in results["bootstrap"]:
        row = {"mask": str(found["policy"])}
        for metric in ("bleu", "chrf"):
            title, one = measure(metric)
            paired = found[metric]
            row[f"difference in {title}"] = estimate(
                paired["difference"], lambda value, one=one: one(value, signed=True)
            )
            # of equal texts no resample differs, and the test has nothing to say
            same = paired["difference"]["low"] == paired["difference"]["high"] == 0
            row[f"p of {title}"] = formatting.number(None if same else paired["p_value"], 3)
        rows.append(row)
    return rows
