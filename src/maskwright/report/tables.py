"""Results as rows of text, for the page and for the terminal alike.

A row is a ``dict`` from column heading to cell; every row of a table has the same headings in the
same order, so the first row also gives the header. An estimate with an interval is one cell,
``"4.710 [4.650, 4.780]"``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from maskwright.report import formatting

Row = dict[str, str]

MEASURES: dict[str, tuple[str, Callable[..., str]]] = {
    "loss": ("held-out loss", formatting.loss),
    "perplexity": ("perplexity", formatting.perplexity),
    "accuracy": ("accuracy", formatting.accuracy),
}
_OF_TASKS = {"macro_f1": ("macro-F1", formatting.accuracy)}
_OF_TRANSLATION = {
    "bleu": ("BLEU", formatting.score),
    "chrf": ("chrF", formatting.score),
    "exposure": ("exposure", formatting.loss),
}
SHARES = ("accuracy", "macro_f1")  # from 0 to 1, better when higher
HIGHER_IS_BETTER = (*SHARES, "bleu", "chrf")


def summary_rows(
    regime: Mapping[str, Any], unigram: Mapping[str, float] | None = None
) -> list[Row]:
    """One row per policy: loss, perplexity and accuracy, each with its interval.

    With ``unigram`` (the results' baseline of token frequencies) a last column gives the policy's
    mean loss minus the baseline's, in nats: below zero means the model uses context.
    """
    rows = []
    for policy in regime["policies"]:
        row = {"policy": str(policy["name"])}
        for metric, (title, one) in MEASURES.items():
            row[title] = estimate(policy["summary"][metric], one)
        if unigram is not None:
            mean = policy["summary"]["loss"]["mean"]
            gap = None if mean is None else mean - unigram["loss"]
            row["loss against unigram"] = formatting.loss(gap, signed=True)
        rows.append(row)
    return rows


def difference_rows(regime: Mapping[str, Any]) -> list[Row]:
    """One row per paired comparison: policy minus reference, its interval, each seed, verdict."""
    rows = []
    for difference in regime["differences"]:
        title, one = measure(difference["metric"])

        def signed(value: float | None, one: Callable[..., str] = one) -> str:
            return one(value, signed=True)

        rows.append(
            {
                "policy": str(difference["policy"]),
                "against": str(difference["reference"]),
                "measure": title,
                "difference": estimate(difference, signed),
                "each seed": ", ".join(
                    signed(value).removesuffix(" points") for value in difference["per_seed"]
                ),
                "verdict": str(difference["verdict"]),
            }
        )
    return rows


def same_masks_sentences(regime: Mapping[str, Any]) -> list[str]:
    """Of policies that draw the same masks and compute a step in two ways: how far apart their
    learning curves are. None in results of before this was looked at."""
    return [
        "{} and {} draw the same masks. ".format(*found["policies"])
        + f"Their curves differ by at most {found['largest']:.2g} nats (seed {found['seed']}, step "
        f"{formatting.count(found['step'])}), and at the end by at most {found['final']:.2g}."
        for found in regime.get("same_masks", [])
    ]


def matched_rows(regime: Mapping[str, Any]) -> list[Row]:
    """One row per policy and basis: loss against the reference, with what the policy costs.

    At equal steps, as trained; and, where the results have it, at equal predicted tokens and equal
    time. The cost is that of a whole run, in parts of the reference's; its time is the processor's
    where the results have it of every policy.
    """
    whole = {policy["name"]: policy["cost"] for policy in regime["policies"]}
    reference = whole.get(regime["reference"])
    entries = [
        *(
            (difference, "equal steps")
            for difference in regime["differences"]
            if difference["metric"] == "loss"
        ),
        *((found, f"equal {found['by']}") for found in regime.get("matched", [])),
    ]
    names = [policy["name"] for policy in regime["policies"]]
    processor = all("cpu_seconds" in cost for cost in whole.values())
    seconds = "cpu_seconds" if processor else "seconds"
    rows = []
    for entry, basis in sorted(entries, key=lambda entry: names.index(entry[0]["policy"])):
        cost = whole[entry["policy"]]
        rows.append(
            {
                "policy": str(entry["policy"]),
                "at": basis,
                "difference in loss": estimate(
                    entry, lambda value: formatting.loss(value, signed=True)
                ),
                "time": _times(cost, reference, seconds),
                "predicted tokens": _times(cost, reference, "predicted_tokens"),
                "verdict": str(entry["verdict"]),
            }
        )
    return rows


def cost_rows(regime: Mapping[str, Any]) -> list[Row]:
    """One row per policy: what one training run cost, averaged over its seeds.

    Where the results have it, the last column is how many steps it took until the held-out loss was
    as low as the reference's in the end.
    """
    reached = {found["policy"]: found for found in regime.get("reached", [])}
    rows = []
    for policy in regime["policies"]:
        cost = policy["cost"]
        row = {
            "policy": str(policy["name"]),
            "training time": formatting.duration(cost["seconds"]),
            "tokens read": formatting.count(cost["tokens"]),
            "tokens predicted": formatting.count(cost["predicted_tokens"]),
            "tokens per second": formatting.count(cost["tokens_per_second"]),
        }
        if reached:
            row[f"steps to {regime['reference']}'s loss"] = _reached(reached[policy["name"]])
        rows.append(row)
    return rows


def _reached(found: Mapping[str, Any]) -> str:
    if found["steps"] is not None:
        return formatting.count(round(found["steps"]))
    return f"reached by {found['reached']} of {len(found['per_seed'])} seeds"


def glance_rows(regimes: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Policies down, regimes across: the loss verdict of each, for reading the page in one look.

    A cell is ``"4.710 reference"``, ``"4.980 worse"`` or ``"—"`` where a policy was not run.
    """
    names = dict.fromkeys(policy["name"] for regime in regimes for policy in regime["policies"])
    rows = []
    for name in names:
        row = {"policy": str(name)}
        for regime in regimes:
            row[str(regime["title"])] = _glance_cell(regime, name)
        rows.append(row)
    return rows


def confidence(regime: Mapping[str, Any]) -> str:
    """The level of the regime's intervals, ``"95%"``; empty when it compared nothing."""
    levels = {difference["confidence"] for difference in regime["differences"]}
    return " / ".join(formatting.percent(level) for level in sorted(levels))


def measure(metric: str) -> tuple[str, Callable[..., str]]:
    """Title and formatter of a metric; an unknown one keeps its name and gets four decimals."""

    def plain(value: float | None, *, signed: bool = False) -> str:
        return formatting.number(value, 4, signed=signed)

    return (MEASURES | _OF_TASKS | _OF_TRANSLATION).get(metric, (metric, plain))


def estimate(values: Mapping[str, float | None], one: Callable[..., str]) -> str:
    """A mean and its interval as one cell."""
    ends = formatting.interval(
        values["low"], values["high"], lambda end: one(end).removesuffix(" points")
    )
    return f"{one(values['mean'])} {ends}"


def _times(cost: Mapping[str, float], reference: Mapping[str, float] | None, key: str) -> str:
    whole = None if reference is None or not reference[key] else cost[key] / reference[key]
    return formatting.number(whole, 2, suffix=" ×")


def _glance_cell(regime: Mapping[str, Any], name: str) -> str:
    for policy in regime["policies"]:
        if policy["name"] == name:
            value = formatting.loss(policy["summary"]["loss"]["mean"])
            return f"{value} {_loss_verdict(regime, name)}".strip()
    return formatting.NOT_MEASURED


def _loss_verdict(regime: Mapping[str, Any], name: str) -> str:
    if name == regime["reference"]:
        return "reference"
    for difference in regime["differences"]:
        if difference["policy"] == name and difference["metric"] == "loss":
            return str(difference["verdict"])
    return ""
