"""Rows of a translation comparison: what was measured, and a dash where nothing could be."""

from __future__ import annotations

from maskwright.report.forest import paired_differences
from maskwright.report.palette import series_styles
from maskwright.report.translation_tables import (
    bootstrap_rows,
    cost_rows,
    score_rows,
    written_rows,
)


def spread(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 1, "high": mean + 1}


def variant(name: str, summary: dict, **way: float) -> dict:
    written = {"bleu": 30.04, "bleu_single": 20.0, "chrf": 50.0, "seconds": 65.0}
    return {
        "name": name,
        "summary": summary,
        "written": {"greedy": {**written, "tokens_per_second": 1234.4, **way}},
        "cost": {
            "seconds": 90.0,
            "cpu_seconds": 80.0,
            "predicted_tokens": 5000.0,
            "tokens_per_second": 55.5,
        },
    }


WHOLE = {"bleu": spread(30.04), "chrf": spread(50), "perplexity": spread(7), "exposure": spread(2)}
RESULTS = {
    "variants": [
        variant("none", WHOLE),
        variant("cmlm", {"bleu": spread(20), "chrf": spread(40)}),
        variant("wait-k", WHOLE, lagging=3.25),
    ]
}


def test_scores_with_a_dash_where_there_is_none():
    none, cmlm, waiting = score_rows(RESULTS)
    assert none["BLEU"] == "30.0 [29.0, 31.0]"
    assert (cmlm["perplexity"], cmlm["exposure"], cmlm["lagging"]) == ("—", "—", "—")
    assert waiting["lagging"] == "3.2"
    assert none.keys() == cmlm.keys() == waiting.keys()
    assert "lagging" not in score_rows({"variants": RESULTS["variants"][:2]})[0]


def test_costs_and_ways_to_write():
    assert cost_rows(RESULTS)[0]["training time"] == "1 min 30 s"
    assert written_rows(RESULTS)[0]["tokens per second"] == "1,234"


def test_the_bootstrap_of_equal_texts_has_no_p_value():
    def paired(mean: float, half: float) -> dict:
        difference = {"mean": mean, "low": mean - half, "high": mean + half}
        return {"difference": difference, "p_value": 0.001}

    found = {"policy": "padding", "bleu": paired(0, 0), "chrf": paired(2, 1)}
    [row] = bootstrap_rows({"bootstrap": [found]})
    assert row["p of BLEU"] == "—"
    assert row["difference in chrF"] == "+2.0 [+1.0, +3.0]"
    assert row["p of chrF"] == "0.001"


def test_more_bleu_is_better_in_the_forest():
    difference = {
        "policy": "span",
        "reference": "none",
        "metric": "bleu",
        "per_seed": [1.0, 2.0],
        **spread(1.5),
        "confidence": 0.95,
        "verdict": "better",
    }
    styles = series_styles([{"policies": [{"name": "span"}]}])
    figure = paired_differences([difference], "bleu", styles, "f")
    assert figure.index("← worse") < figure.index("better →")
    assert "+1.5" in figure
    loss = paired_differences([{**difference, "metric": "loss"}], "loss", styles, "g")
    assert loss.index("← better") < loss.index("worse →")
