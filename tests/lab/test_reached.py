"""Steps until a run is as good as the reference ended."""

import pytest

from maskwright.lab.reached import steps_to_reach
from maskwright.report.tables import cost_rows


def run(*points):
    return {"history": [{"step": step, "loss": loss} for step, loss in points]}


def test_between_two_points_along_a_straight_line():
    runs = {
        "dynamic": [run((0, 6.0), (100, 4.0))],
        "fast": [run((0, 6.0), (50, 5.0), (100, 3.0))],
    }
    reference, fast = steps_to_reach("dynamic", runs)
    assert reference["steps"] == 100
    assert reference["reached"] == 1
    assert fast["steps"] == 75  # half-way from 5 to 3


def test_the_first_time_counts_though_the_loss_went_up_again():
    runs = {"dynamic": [run((0, 5.0), (10, 3.0), (20, 4.0))]}
    assert steps_to_reach("dynamic", runs)[0]["steps"] == pytest.approx(
        5.0
    )  # 5 → 4 on the way to 3


def test_a_seed_that_never_gets_there_is_said_and_spoils_the_mean():
    runs = {
        "dynamic": [run((0, 6.0), (10, 4.0)), run((0, 6.0), (10, 4.0))],
        "static": [run((0, 6.0), (10, 3.0)), run((0, 6.0), (10, 5.0))],
    }
    static = steps_to_reach("dynamic", runs)[1]
    assert static["per_seed"] == [pytest.approx(20 / 3), None]
    assert static["reached"] == 1
    assert static["steps"] is None


def test_a_run_that_begins_better_needs_no_step():
    runs = {"dynamic": [run((0, 6.0), (10, 4.0))], "warm": [run((0, 3.0), (10, 2.0))]}
    assert steps_to_reach("dynamic", runs)[1]["steps"] == 0


def test_the_table_of_costs_says_it():
    regime = {
        "reference": "dynamic",
        "policies": [
            {
                "name": name,
                "cost": {
                    "seconds": 1,
                    "tokens": 10,
                    "predicted_tokens": 3,
                    "tokens_per_second": 10,
                },
            }
            for name in ("dynamic", "static")
        ],
        "reached": [
            {"policy": "dynamic", "steps": 99.6, "reached": 2, "per_seed": [99.0, 100.2]},
            {"policy": "static", "steps": None, "reached": 1, "per_seed": [90.0, None]},
        ],
    }
    cells = [row["steps to dynamic's loss"] for row in cost_rows(regime)]
    assert cells == ["100", "reached by 1 of 2 seeds"]
    del regime["reached"]
    assert "steps to dynamic's loss" not in cost_rows(regime)[0]
