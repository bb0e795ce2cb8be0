"""The tasks that encoders were fine-tuned on, as rows of text and in words.

Results of a version without tasks have none, and then nothing is shown.
"""

from collections.abc import Mapping
from typing import Any

from maskwright.report import formatting
from maskwright.report.tables import Row, estimate, measure

METRICS = ("accuracy", "macro_f1")


def task_facts(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What the results say of each task itself, by its name."""
    return {task["name"]: task for task in results.get("tasks", [])}


def task_rows(task: Mapping[str, Any], facts: Mapping[str, Any]) -> list[Row]:
    """One row per policy: accuracy and macro-F1 on the test examples, each with its interval.

    A further column is the accuracy minus that of answering the commonest class always.
    """
    rows = []
    for policy in task["policies"]:
        row = {"policy": str(policy["name"])}
        for metric in METRICS:
            title, one = measure(metric)
            row[title] = estimate(policy["summary"][metric], one)
        above = policy["summary"]["accuracy"]["mean"] - facts["majority"]
        row["over constant"] = formatting.accuracy(above, signed=True)
        row["time"] = formatting.duration(policy["cost"]["seconds"])
        rows.append(row)
    return rows


def task_words(facts: Mapping[str, Any]) -> str:
    """What the task is, in two sentences."""
    labels = [str(label) for label in facts["labels"]]
    shown = ", ".join(labels) if len(labels) <= 8 else f"{', '.join(labels[:7])} …"
    epochs = facts["epochs"]
    return (
        f"{facts['source']}: {len(labels)} classes ({shown}). Fine-tuned on "
        f"{formatting.count(facts['train'])} examples, {epochs} "
        f"{'epoch' if epochs == 1 else 'epochs'}, and judged on "
        f"{formatting.count(facts['test'])} others; answering the commonest class always is right "
        f"in {formatting.accuracy(facts['majority'])}."
    )
