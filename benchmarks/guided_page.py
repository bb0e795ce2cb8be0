"""Writes docs/results/guided.md from the recorded comparisons: `python -m benchmarks.guided_page`.

A figure on the page is then what `maskwright compare` measured; a test compares the two.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS
from maskwright.report import formatting
from maskwright.report.tables import estimate

PAGE = Path(__file__).parent.parent / "docs" / "results" / "guided.md"
NAMES = ("guided", "guided-minilm")

HEAD = """\
# Guided masks against masks by chance

Written by `python -m benchmarks.guided_page` from `benchmarks/results/compare/`; do not edit it
by hand.

Every policy of a seed branches from the same warm checkpoint, sees the same samples in the same
order, and is judged on the same frozen masks; `dynamic` is what it is compared with. A policy is
*better* or *worse* only if the 95% interval leaves zero out and every seed shows the sign.
Differences are policy minus `dynamic`: in held-out loss, lower is better. *Equal steps* are the
runs as trained; at equal predicted tokens and equal seconds, both learning curves are read where
the run that spends less ends, and the interval is Student's, over seeds. Cost is that of a whole
run, in parts of `dynamic`'s; time is the processor's where the run was on a CPU. The last column
is how many steps a policy took until its held-out loss was as low as `dynamic`'s in the end.
"""

NOTES = """\
## Reading it

* `coverage` and `high-rate` predict more tokens than `dynamic`; all others are given the same
  share.
* `pmi` hides words and collocations whole, and the judge hides single tokens: parts of words
  whose other parts can be seen. Held-out loss speaks against it more, the more tokens a word has.
  The tasks are the fairer judge.
* `electra` runs the model twice a step. Held-out loss is that of its masked language model, which
  shares all weights with the detector of replaced tokens.
* `static` sees each question again and learns the answers by heart: the reason for dynamic masks.
* These are small budgets on small texts. They say what a policy does there, and not what it would
  do in a pre-training of a million steps. Run yours: `maskwright compare FILE.yaml`.
"""


def render(results: Path = RESULTS / "compare") -> str:
    """The page."""
    parts = [HEAD]
    for name in NAMES:
        path = results / f"{name}.json"
        if path.is_file():
            parts.append(_comparison(json.loads(path.read_text("utf-8")), path.name))
    return "\n".join([*parts, NOTES])


def _comparison(results: dict[str, Any], name: str) -> str:
    model, data = results["model"], results["data"]
    lines = [
        f"## {model['name']} on {data['name']}",
        "",
        f"`{results['command']}`: {model['parameters'] / 1e6:.2f} M parameters, "
        f"{len(results['experiment']['seeds'])} seeds. Every figure is in "
        f"[benchmarks/results/compare/{name}](../../benchmarks/results/compare/{name}) "
        f"({results['created'][:10]}, {results['machine']['processor']}).",
        "",
    ]
    unigram = results["unigram"]["loss"]
    lines += [
        f"Guessing by the frequencies of tokens alone has loss {formatting.loss(unigram)}.",
        "",
    ]
    for regime in results["regimes"]:
        if _mean_loss(regime) >= unigram:
            lines += [
                "**Here `dynamic` ends no better than that: within this budget the model has "
                "learned nothing from context, and the differences below say nothing of the "
                "policies.**",
                "",
            ]
        lines += _regime(regime, {task["name"]: task for task in results.get("tasks", [])})
    return "\n".join(lines)


def _regime(regime: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    lines = [
        f"### {regime['title']}",
        "",
        f"{formatting.count(regime['tokens'])} tokens, {regime['epochs']:g} epochs, "
        f"{regime['steps']} steps a run. **{regime['verdict']}**",
        "",
        *_losses(regime),
        *_matched(regime),
    ]
    for task in regime.get("tasks", []):
        lines += _task(task, facts[task["name"]])
    return lines


def _mean_loss(regime: dict[str, Any]) -> float:
    """The reference's."""
    policies = {policy["name"]: policy["summary"] for policy in regime["policies"]}
    return policies[regime["reference"]]["loss"]["mean"]


def _losses(regime: dict[str, Any]) -> list[str]:
    cost = {policy["name"]: policy["cost"] for policy in regime["policies"]}
    base = cost[regime["reference"]]
    clock = "cpu_seconds" if all("cpu_seconds" in one for one in cost.values()) else "seconds"
    reached = {one["policy"]: one for one in regime.get("reached", [])}
    found = {one["policy"]: one for one in regime["differences"] if one["metric"] == "loss"}
    rows = []
    for policy in regime["policies"]:
        name = policy["name"]
        difference = found.get(name)
        rows.append(
            [
                f"`{name}`",
                formatting.loss(policy["summary"]["loss"]["mean"]),
                "–" if difference is None else _signed(difference),
                "the reference" if difference is None else difference["verdict"],
                f"{cost[name][clock] / base[clock]:.2f}",
                f"{cost[name]['predicted_tokens'] / base['predicted_tokens']:.2f}",
                _steps(reached.get(name)),
            ]
        )
    heads = [
        "policy",
        "held-out loss",
        "difference at equal steps",
        "verdict",
        "time ×",
        "tokens ×",
        "steps to its loss",
    ]
    return [*_table(heads, rows), ""]


def _matched(regime: dict[str, Any]) -> list[str]:
    matched: dict[str, dict[str, Any]] = {}
    for one in regime.get("matched", []):
        matched.setdefault(one["policy"], {})[one["by"]] = one
    if not matched:
        return []
    rows = []
    for name, by in matched.items():
        row = [f"`{name}`"]
        for expense in ("predicted tokens", "seconds"):
            one = by.get(expense)
            row += ["–", "–"] if one is None else [_signed(one), one["verdict"]]
        rows.append(row)
    heads = ["policy", "at equal predicted tokens", "verdict", "at equal seconds", "verdict"]
    return [*_table(heads, rows), ""]


def _task(task: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    against = {one["policy"]: one for one in task["differences"] if one["metric"] == "accuracy"}
    rows = []
    for policy in task["policies"]:
        one = against.get(policy["name"])
        rows.append(
            [
                f"`{policy['name']}`" if one or policy["name"] == task["reference"]
                else policy["name"],
                estimate(policy["summary"]["accuracy"], formatting.accuracy),
                formatting.accuracy(policy["summary"]["macro_f1"]["mean"]),
                "–" if one is None else estimate(one, _points),
                "the reference" if one is None else one["verdict"],
            ]
        )  # fmt: skip
    best = max(policy["summary"]["accuracy"]["low"] or 0.0 for policy in task["policies"])
    nothing = "No encoder is surely above that, so this task says nothing of them at this budget."
    return [
        f"#### Fine-tuned: {task['name']}",
        "",
        f"{facts['source']}: {len(facts['labels'])} classes, {facts['train']} examples, "
        f"{facts['epochs']} epochs, judged on {facts['test']}; the commonest class always is right "
        f"in {formatting.accuracy(facts['majority'])}."
        + (f" **{nothing}**" if best <= facts["majority"] else ""),
        "",
        *_table(["encoder", "accuracy", "macro-F1", "difference in accuracy", "verdict"], rows),
        "",
    ]


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    rule = ["---", *("---:" if head not in ("verdict", "policy") else "---" for head in heads[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows)]


def _signed(found: dict[str, Any]) -> str:
    return estimate(found, lambda value: formatting.loss(value, signed=True))


def _points(value: float | None) -> str:
    return formatting.accuracy(value, signed=True)


def _steps(found: dict[str, Any] | None) -> str:
    if found is None:
        return "–"
    if found["steps"] is not None:
        return formatting.count(round(found["steps"]))
    return f"{found['reached']} of {len(found['per_seed'])} seeds got there"


if __name__ == "__main__":
    PAGE.write_text(render(), "utf-8")
    print(PAGE)
