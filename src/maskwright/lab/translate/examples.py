"""A few test sentences as every model translated them, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maskwright.evaluation.translation.counts import chrf_of, sentence_counts
from maskwright.lab.translate.preparation import PreparedPairs
from maskwright.lab.translate.results import main_texts

MANY = 6


def example_translations(
    prepared: PreparedPairs, runs: Mapping[str, list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """The sentences that the models of the first seed disagree on most, of different sources.

    Disagreement is the number of different translations; of equal ones the longer source comes
    first. They show what masks change, and not how good the models are: that is in the tables.
    """
    texts = {name: main_texts(several[0]) for name, several in runs.items()}
    matched = {
        name: sentence_counts(written, prepared.test.references)[0]["chrf"]
        for name, written in texts.items()
    }
    sources = prepared.test.sources
    different = [len({written[i] for written in texts.values()}) for i in range(len(sources))]
    order = sorted(range(len(sources)), key=lambda i: (-different[i], -len(sources[i]), i))
    return [
        {
            "source": sources[i],
            "references": list(prepared.test.references[i]),
            "translations": {
                name: {"text": written[i], "chrf": float(chrf_of(matched[name][i]))}
                for name, written in texts.items()
            },
        }
        for i in order[:MANY]
    ]
