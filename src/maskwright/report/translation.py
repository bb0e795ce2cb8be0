"""One self-contained HTML file from the results of a translation comparison."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from maskwright.errors import MissingExtra, ResultsError
from maskwright.placing import place_bytes
from maskwright.report import formatting, tables, translation_tables
from maskwright.report.html import as_yaml, environment

FORMAT = "maskwright.translation/1"
TEMPLATE = "translation.html.j2"


def write_translation_report(results: Mapping[str, Any], path: Path) -> Path:
    """Write the report page of ``results`` to ``path`` and return that path.

    The page needs nothing else: style and figures are inside, nothing is loaded, no script runs.
    The same results give the same bytes.

    Raises:
        ResultsError: the results have another format, or lack a field.
        SaveError: the file could not be written.
        MissingExtra: jinja2, matplotlib or PyYAML is not installed.
    """
    return place_bytes(Path(path), render_translation(results).encode())


def render_translation(results: Mapping[str, Any]) -> str:
    """The page as text; raises as `write_translation_report` does, short of ``SaveError``."""
    if results.get("format") != FORMAT:
        raise ResultsError(
            f"These results have format {results.get('format')!r}; this report reads {FORMAT!r}. "
            "Run the comparison again: maskwright compare --task translate"
        )
    import jinja2  # `environment` says what to do without it

    try:
        return environment().get_template(TEMPLATE).render(_context(results))
    except (KeyError, jinja2.UndefinedError) as error:
        raise ResultsError(
            f"The results lack a field that the report needs: {error}. Every field of {FORMAT} "
            "must be there; write the file again with: maskwright compare --task translate"
        ) from error


def _context(results: Mapping[str, Any]) -> dict[str, Any]:
    try:
        from maskwright.report import attention_maps, curves, forest, palette
    except ModuleNotFoundError as error:
        raise MissingExtra("matplotlib", "lab") from error
    from markupsafe import Markup

    style = resources.files("maskwright.report").joinpath("style.css").read_text("utf-8")
    named = {"policies": results["variants"]}
    styles = palette.series_styles([named])
    by_metric: dict[str, list[Mapping[str, Any]]] = {}
    for difference in results["differences"]:
        by_metric.setdefault(difference["metric"], []).append(difference)
    comparable = [one for one in results["variants"] if "loss" in one["summary"]]
    curved = {"policies": comparable, "steps": results["steps"], "epochs": results["epochs"]}
    loss = results["unigram"]["loss"]
    return {
        "style": Markup(style),
        "results": results,
        "created": str(results["created"]).replace("T", " ").replace("Z", " UTC"),
        "facts": key_facts(results),
        "measurement": measurement_facts(results),
        "confidence": tables.confidence(results),
        "scores": translation_tables.score_rows(results),
        "written": translation_tables.written_rows(results),
        "differences": tables.difference_rows(results),
        "bootstrap": translation_tables.bootstrap_rows(results),
        "cost": translation_tables.cost_rows(results),
        "legend": [
            {
                "name": one["name"],
                "description": one["description"],
                "swatch": Markup(curves.swatch(styles[one["name"]], f"key-{place}")),
            }
            for place, one in enumerate(results["variants"])
        ],
        "curves": [
            (title, Markup(curves.learning_curves(curved, loss, styles, name, close_up=close)))
            for title, name, close in (
                ("The whole run", "whole", False),
                ("The second half, close up", "close", True),
            )
        ],
        "forests": [
            (
                f"Difference in {tables.measure(metric)[0]}",
                Markup(forest.paired_differences(entries, metric, styles, f"forest-{metric}")),
            )
            for metric, entries in by_metric.items()
        ],
        "maps": [
            (one["variant"], Markup(attention_maps.attention_map(one, f"map-{place}")))
            for place, one in enumerate(results["maps"])
        ],
        "examples": [_example(one) for one in results["examples"]],
        "config": as_yaml(results["experiment"]),
    }


def _example(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "source": found["source"],
        "references": " / ".join(found["references"][:3]),
        "translations": [
            (name, one["text"], formatting.number(one["chrf"], 0))
            for name, one in found["translations"].items()
        ],
    }


def key_facts(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The line under the title."""
    model, data, machine = results["model"], results["data"], results["machine"]
    seeds = results["experiment"]["seeds"]
    parameters = formatting.number(model["parameters"] / 1e6, 2, suffix=" M parameters")
    return [
        ("Model", f"{model['name']}, {parameters}"),
        ("Vocabulary", f"{formatting.count(results['vocabulary']['size'])} tokens"),
        ("Pairs", f"{data['name']}, {formatting.count(data['pairs']['train'])} to train on"),
        ("Test sentences", formatting.count(data["pairs"]["test"])),
        ("Seeds", f"{len(seeds)} ({', '.join(map(str, seeds))})"),
        ("Training steps", formatting.count(results["steps"])),
        (
            "Machine",
            f"{machine['processor']}, {machine['cores']} cores; {machine['workers']} runs at a "
            f"time, {machine['threads_per_run']} threads each",
        ),
        ("Training, all runs", formatting.duration(results["seconds"])),
    ]


def measurement_facts(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the numbers came about, enough to judge or repeat them."""
    data, warmup = results["data"], results["warmup"]
    ways = {name for one in results["variants"] for name in one["written"]}
    start = "from random weights"
    if warmup is not None:
        start = f"one start shared by all masks of a seed: {warmup['steps']} steps without masks"
    return [
        (
            "Split",
            "by a hash of the source sentence: no test source was trained on; "
            f"{formatting.number(data['references'], 1)} references a sentence in the mean",
        ),
        ("BLEU and chrF", "sacrebleu, against all references; " + _signature(results)),
        (
            "Perplexity",
            "of the first reference under teacher forcing, without label smoothing; models that "
            "fill masks have none",
        ),
        (
            "Exposure",
            "loss of the reference when the decoder reads its own guesses of the words before, "
            "minus the loss when it reads the reference; nats a token",
        ),
        (
            "Differences",
            "mask minus none, paired by seed and sentence; intervals over both at "
            f"{tables.confidence(results) or formatting.NOT_MEASURED}",
        ),
        ("Written", f"{', '.join(sorted(ways))}, with the mask attached"),
        ("Start of each run", start),
        ("Guessing by frequency", f"loss {formatting.loss(results['unigram']['loss'])}"),
        ("Text", f"licence: {data['licence']}"),
        ("Fingerprint of the test set", str(data["fingerprint"])[:16]),
    ]


def _signature(results: Mapping[str, Any]) -> str:
    return str(results.get("signature", "its defaults"))
