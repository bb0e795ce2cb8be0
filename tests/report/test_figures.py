import re

import numpy as np
import pytest

from maskwright.report import curves, examples, forest
from maskwright.report.palette import DASHES, MARKERS, SERIES, VARIABLES, series_styles


def ticks(svg: str) -> set[str]:
    return set(re.findall(r"<text[^>]*>([^<]*)</text>", svg))


def test_the_close_up_leaves_out_what_exploded_and_says_where_it_went(results):
    regime = results["regimes"][1]
    styles = series_styles(results["regimes"])
    whole = curves.learning_curves(regime, 5.65, styles, "whole", close_up=False)
    close = curves.learning_curves(regime, 5.65, styles, "close", close_up=True)
    final = regime["policies"][1]["summary"]["loss"]["mean"]
    assert f"↑ static ends at {final:.3f}" in close
    assert "ends at" not in whole
    assert "unigram baseline 5.650" in whole
    assert "6.5" in ticks(whole)
    assert {"4.16", "4.32"} <= ticks(close)


def test_the_close_up_keeps_all_policies_that_are_close(results):
    regime = results["regimes"][0]
    close = curves.learning_curves(
        regime, 5.65, series_styles(results["regimes"]), "close", close_up=True
    )
    assert "ends at" not in close


def test_a_loss_without_bounds_does_not_flatten_the_whole_run(results):
    regime = results["regimes"][1]
    for run in regime["policies"][1]["runs"]:
        run["history"][-1]["loss"] = 1e6
    styles = series_styles(results["regimes"])
    whole = curves.learning_curves(regime, 5.65, styles, "whole", close_up=False)
    assert "↑ static ends at 1,000,000.000" in whole


def test_a_mean_needs_every_seed():
    policy = {
        "runs": [
            {"history": [{"step": 0, "loss": 5.0}, {"step": 10, "loss": 4.0}]},
            {"history": [{"step": 0, "loss": 6.0}]},
        ]
    }
    steps, losses = curves._curves(policy)
    assert steps.tolist() == [0, 10]
    np.testing.assert_array_equal(curves._mean(losses), [5.5, np.nan])


@pytest.mark.parametrize("history", [[], [{"step": 0, "epoch": 0.0, "loss": 5.0}]])
def test_hardly_any_history_is_still_a_figure(results, history):
    regime = results["regimes"][0]
    for policy in regime["policies"]:
        for run in policy["runs"]:
            run["history"] = history
    styles = series_styles(results["regimes"])
    for close_up in (False, True):
        assert "<svg" in curves.learning_curves(regime, 5.65, styles, "name", close_up=close_up)


def test_a_runaway_difference_is_an_arrow_with_its_value(results):
    styles = series_styles(results["regimes"])
    for index, expected in ((0, False), (1, True)):
        entries = results["regimes"][index]["differences"][:3]
        drawn = forest.paired_differences(entries, "loss", styles, "forest")
        assert (f"{entries[0]['mean']:+.3f}" in ticks(drawn)) is expected


def test_better_is_on_the_side_where_the_metric_improves(results):
    styles = series_styles(results["regimes"])
    differences = results["regimes"][0]["differences"]
    assert {"← better", "worse →"} <= ticks(
        forest.paired_differences(differences[:3], "loss", styles, "forest")
    )
    assert {"← worse", "better →"} <= ticks(
        forest.paired_differences(differences[3:], "accuracy", styles, "forest")
    )


def test_policies_are_told_apart_without_colour():
    names = [{"name": str(index)} for index in range(7)]
    styles = series_styles([{"policies": names}])
    assert len({(style.dashes, style.marker) for style in styles.values()}) == 7
    assert len(SERIES) == 6
    assert set(SERIES) < set(VARIABLES)
    assert (len(DASHES), len(MARKERS)) == (5, 7)


def test_a_policy_looks_the_same_in_every_regime(results):
    forward = series_styles(results["regimes"])
    del results["regimes"][1]["policies"][0]
    assert series_styles(results["regimes"]) == forward


def test_a_mask_has_the_gap_of_the_word_it_hides():
    tokens = [
        {"text": "to", "state": "untouched"},
        {"text": "[MASK]", "state": "masked", "original": "night"},
        {"text": "[MASK]", "state": "masked", "original": " we"},
        {"text": "war", "state": "random", "original": " are"},
        {"text": "\n", "state": "kept", "original": "\n"},
    ]
    (shown,) = examples.shown_epochs({"epochs": [{"epoch": 0, "tokens": tokens}]})
    assert [token.gap for token in shown.tokens] == ["", "", " ", " ", " "]
    assert shown.tokens[1].title == "masked; the original is “night”"
    assert shown.tokens[4].text == "␣"
    assert shown.note == "4 of 5 to be guessed"


def test_tokens_without_spaces_are_set_apart():
    tokens = [{"text": "the", "state": "untouched"}, {"text": "cat", "state": "untouched"}]
    example = {"epochs": [{"epoch": 0, "tokens": tokens}]}
    assert examples.original_text([example]) == "the cat"
    assert [token.gap for token in examples.shown_epochs(example)[0].tokens] == [" ", " "]


def test_a_static_policy_asks_the_same_questions_again(results):
    notes = [epoch.note for epoch in examples.shown_epochs(results["examples"][1])]
    count = notes[0].split()[0]
    assert notes[2] == f"{notes[0]}, {count} of them as in epoch 0"


def test_an_unknown_token_state_is_refused():
    token = {"text": "the", "state": "shuffled"}
    with pytest.raises(ValueError, match="Unknown token state 'shuffled'"):
        examples.shown_epochs({"epochs": [{"epoch": 0, "tokens": [token]}]})
