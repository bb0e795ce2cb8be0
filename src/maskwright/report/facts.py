"""What was run and how it was measured, as label and value: the small print of the page."""

from collections.abc import Mapping
from typing import Any

from maskwright.report import formatting
from maskwright.report.tables import confidence

Facts = list[tuple[str, str]]


def key_facts(results: Mapping[str, Any]) -> Facts:
    """The line under the title: model, text, seeds, steps, machine and time."""
    model, data, machine = results["model"], results["data"], results["machine"]
    parameters = formatting.number(model["parameters"] / 1e6, 2, suffix=" M parameters")
    steps = (f"{formatting.count(regime['steps'])}" for regime in results["regimes"])
    facts = [
        ("Model", f"{model['name']}, {parameters}"),
        ("Vocabulary", f"{formatting.count(results['vocabulary']['size'])} tokens"),
        ("Text", f"{data['name']}, {_documents(data)}"),
        ("Seeds", _seeds(results)),
        ("Training steps", " and ".join(dict.fromkeys(steps))),
        ("Machine", _machine(machine)),
        ("Training, all runs", formatting.duration(results["seconds"])),
    ]
    return facts


def measurement_facts(results: Mapping[str, Any]) -> Facts:
    """How the held-out numbers came about, enough to judge or repeat them."""
    evaluation, warmup = results["evaluation"], results["warmup"]
    unigram = results["unigram"]
    levels = {level for regime in results["regimes"] if (level := confidence(regime))}
    level = " / ".join(sorted(levels)) or formatting.NOT_MEASURED
    facts = [
        (
            "Held-out masks",
            f"{evaluation['masks']}, drawn once: every policy, seed and step "
            "is asked the same questions",
        ),
        ("Split", f"{evaluation['split']}, {formatting.count(evaluation['documents'])} documents"),
        ("Predicted positions", formatting.count(evaluation["predicted"])),
        ("Fingerprint of masks", str(evaluation["fingerprint"])),
        (
            "Unigram baseline",
            "always answers with the token frequencies of the training text: "
            f"loss {formatting.loss(unigram['loss'])}, "
            f"perplexity {formatting.perplexity(unigram['perplexity'])}, "
            f"accuracy {formatting.accuracy(unigram['accuracy'])}",
        ),
        (
            "Differences",
            "policy minus reference, paired by seed: both runs of a pair share what the seed "
            f"decides, so that noise cancels; intervals at {level}",
        ),
        ("Seeds", _seeds(results)),
        ("Start of each run", _start(warmup)),
        ("Text", f"{_documents(data := results['data'])}, licence: {data['licence']}"),
        ("Tokens", _tokens(data)),
    ]
    if "intervals" in evaluation:  # optional: the lab's own words on its method
        facts.insert(6, ("Intervals", str(evaluation["intervals"])))
    return facts


def _documents(data: Mapping[str, Any]) -> str:
    parts = (f"{formatting.count(n)} {split}" for split, n in data["documents"].items())
    return " + ".join(parts) + " documents"


def _tokens(data: Mapping[str, Any]) -> str:
    parts = (f"{formatting.count(n)} {split}" for split, n in data["tokens"].items())
    return " + ".join(parts)


def _seeds(results: Mapping[str, Any]) -> str:
    seeds = dict.fromkeys(
        run["seed"]
        for regime in results["regimes"]
        for policy in regime["policies"]
        for run in policy["runs"]
    )
    return f"{len(seeds)} ({', '.join(str(seed) for seed in seeds)})"


def _machine(machine: Mapping[str, Any]) -> str:
    return (
        f"{machine['processor']}, {_plural(machine['cores'], 'core')}; "
        f"{_plural(machine['workers'], 'run')} at a time, "
        f"{_plural(machine['threads_per_run'], 'thread')} each"
    )


def _start(warmup: Mapping[str, Any] | None) -> str:
    if warmup is None:
        return "from scratch, no shared checkpoint"
    return (
        f"one warm-up checkpoint shared by all policies: {formatting.count(warmup['steps'])} steps "
        f"under “{warmup['policy']}”"
    )


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
