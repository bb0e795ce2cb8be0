"""One self-contained HTML file from one results file."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from maskwright.errors import MissingExtra, ResultsError
from maskwright.placing import place_bytes
from maskwright.report import examples, facts, formatting, tables, tasks

FORMAT = "maskwright.results/1"


def write_report(results: Mapping[str, Any], path: Path) -> Path:
    """Write the report page of ``results`` to ``path`` and return that path.

    The page needs nothing else: style and figures are inside, nothing is loaded, no script runs.
    The same results give the same bytes. A missing folder is made.

    Parameters
    ----------
    results
        The content of ``results.json``, format ``maskwright.results/1``.
    path
        The HTML file. It is replaced in one move or, on any error, left as it was.

    Raises
    ------
    ResultsError
        The results have another format, or lack a field.
    SaveError
        The file could not be written.
    MissingExtra
        jinja2, matplotlib or PyYAML is not installed.
    """
    page = render_page(results)
    path = Path(path)
    return place_bytes(path, page.encode())


def render_page(results: Mapping[str, Any]) -> str:
    """The page as text; raises as ``write_report`` does, short of ``SaveError``."""
    _check_format(results)
    templates = environment()
    import jinja2

    try:
        return templates.get_template("template.html.j2").render(_context(results))
    except (KeyError, jinja2.UndefinedError) as error:
        raise ResultsError(
            f"The results lack a field that the report needs: {error}. Every field of "
            f"{FORMAT} must be there; write the file again with: maskwright compare"
        ) from error


def environment() -> Any:
    """The templates of the report room, as jinja2 loads them.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise MissingExtra("jinja2", "lab") from error
    return jinja2.Environment(
        loader=jinja2.PackageLoader("maskwright.report", "."),
        autoescape=True,  # names, tokens and settings are the user's text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _check_format(results: Mapping[str, Any]) -> None:
    found = results.get("format")
    if found != FORMAT:
        writer = (results.get("versions") or {}).get("maskwright", "unknown")
        raise ResultsError(
            f"These results have format {found!r} (written by maskwright {writer}); the report "
            f"reads {FORMAT!r}. Run the comparison again with this version, or make the report "
            "with the version that wrote them."
        )


def _context(results: Mapping[str, Any]) -> dict[str, Any]:
    from markupsafe import Markup  # comes with jinja2

    regimes = results["regimes"]
    style = resources.files("maskwright.report").joinpath("style.css").read_text("utf-8")
    return {
        "style": Markup(style),
        "results": results,
        "created": str(results["created"]).replace("T", " ").replace("Z", " UTC"),
        "facts": facts.key_facts(results),
        "measurement": facts.measurement_facts(results),
        "glance": tables.glance_rows(regimes),
        "regimes": _regimes(results),
        "states": examples.STATES,
        "original": examples.original_text(results["examples"]),
        "examples": [
            {"policy": example["policy"], "epochs": examples.shown_epochs(example)}
            for example in results["examples"]
        ],
        "config": as_yaml(results["experiment"]),
    }


def _regimes(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the template shows of each regime. Figures come as markup, all else as plain text."""
    try:
        from maskwright.report import curves, forest, masks, palette
    except ModuleNotFoundError as error:
        raise MissingExtra("matplotlib", "lab") from error
    from markupsafe import Markup

    styles = palette.series_styles(results["regimes"])
    loss = results["unigram"]["loss"]
    known = tasks.task_facts(results)
    shown = []
    for index, regime in enumerate(results["regimes"]):
        by_metric: dict[str, list[Mapping[str, Any]]] = {}
        for difference in regime["differences"]:
            by_metric.setdefault(difference["metric"], []).append(difference)
        shown.append(
            {
                "regime": regime,
                "amount": (
                    f"{formatting.count(regime['tokens'])} tokens, "
                    f"{_epochs(regime['epochs'])}, "
                    f"{formatting.count(regime['steps'])} steps per run"
                ),
                "legend": [
                    {
                        "name": policy["name"],
                        "description": policy["description"],
                        "swatch": Markup(
                            curves.swatch(styles[policy["name"]], f"key-{index}-{place}")
                        ),
                    }
                    for place, policy in enumerate(regime["policies"])
                ],
                "curves": [
                    (
                        title,
                        Markup(curves.learning_curves(regime, loss, styles, name, close_up=close)),
                    )
                    for title, name, close in (
                        ("The whole run", f"whole-{index}", False),
                        ("The second half, close up", f"close-{index}", True),
                    )
                ],
                "forests": [
                    (
                        f"Difference in {tables.measure(metric)[0]}",
                        Markup(
                            forest.paired_differences(
                                entries, metric, styles, f"forest-{index}-{place}"
                            )
                        ),
                    )
                    for place, (metric, entries) in enumerate(by_metric.items())
                ],
                "drift": [
                    (title, Markup(figure))
                    for title, figure in masks.drift_figures(regime, styles, f"drift-{index}")
                ],
                "time_axis": Markup(masks.time_axis(regime, styles, f"time-{index}")),
                "confidence": tables.confidence(regime),
                "same_masks": tables.same_masks_sentences(regime),
                "summary": tables.summary_rows(regime, results["unigram"]),
                "differences": tables.difference_rows(regime),
                "matched": tables.matched_rows(regime) if regime.get("matched") else [],
                "processor_seconds": any(
                    found.get("clock") == "processor" for found in regime.get("matched", [])
                ),
                "cost": tables.cost_rows(regime),
                "tasks": [
                    _task(task, known[task["name"]], styles, f"task-{index}-{place}")
                    for place, task in enumerate(regime.get("tasks", []))
                ],
            }
        )
    return shown


def _task(
    task: Mapping[str, Any], known: Mapping[str, Any], styles: Mapping[str, Any], name: str
) -> dict[str, Any]:
    """What the template shows of one task in one regime."""
    from markupsafe import Markup

    from maskwright.report import forest

    by_metric = {
        metric: [entry for entry in task["differences"] if entry["metric"] == metric]
        for metric in tasks.METRICS
    }
    return {
        "name": task["name"],
        "reference": task["reference"],
        "words": tasks.task_words(known),
        "confidence": tables.confidence(task),
        "rows": tasks.task_rows(task, known),
        "differences": tables.difference_rows(task),
        "forests": [
            (
                f"Difference in {tables.measure(metric)[0]}",
                Markup(forest.paired_differences(entries, metric, styles, f"{name}-{metric}")),
            )
            for metric, entries in by_metric.items()
            if entries
        ],
    }


def _epochs(epochs: float) -> str:
    text = formatting.number(epochs, 1).removesuffix(".0")
    return f"{text} epoch" if text == "1" else f"{text} epochs"


def as_yaml(config: Mapping[str, Any]) -> str:
    """Settings as they may be given again.

    Raises:
        MissingExtra: PyYAML is not installed.
    """
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise MissingExtra("PyYAML", "lab") from error
    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=88).rstrip()
