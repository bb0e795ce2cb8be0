"""Writes docs/results/translation.md: `python -m benchmarks.translation_page`.

From the recorded comparison and training under ``benchmarks/results/translation/``; a figure on the
page is then what `maskwright` measured, and a test compares the two.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS
from maskwright.lab.translate.config import TranslationModel
from maskwright.report import formatting
from maskwright.report.tables import difference_rows
from maskwright.report.translation_tables import cost_rows, score_rows

PAGE = Path(__file__).parent.parent / "docs" / "results" / "translation.md"
FOLDER = RESULTS / "translation"

HEAD = """\
# Masks in translation

Written by `python -m benchmarks.translation_page` from `benchmarks/results/translation/`; do not
edit it by hand.
"""

NOTES = """\
## Reading it

* BLEU and chrF are sacrebleu's, against all references of a sentence.
* A mask is *better* or *worse* only if the 95% interval of the difference leaves zero out and every
  seed shows its sign. The interval is over seeds and sentences.
* *Exposure* is the loss of the reference when the decoder reads its own guesses of the words
  before, minus the loss when it reads the reference.
* A model that fills masks (`cmlm`) has no perplexity of whole sentences. It writes in a few passes,
  whatever the length.
* A model with `wait-k` was trained, and writes, with a source that comes word by word. *Lagging* is
  by how many tokens it is behind; the others wait for the whole sentence.
* Below a BLEU of ten or so hardly any sentence is right, and chrF and held-out loss tell more.
* When the comparison was recorded, steps of a model with a pattern attached to its cross-attention
  ran on padded batches: that is the difference in seconds between `padding` and `none`. By now only
  that attention gets its padding back.
* These are small models and small budgets. They say what a mask does there, and not what it would
  do in a training of days. Run yours: `maskwright compare --task translate FILE.yaml`.
"""


def render(folder: Path = FOLDER) -> str:
    """The page; of what was not recorded it has nothing."""
    parts = [HEAD]
    for path in sorted(folder.glob("train-*.json")):
        parts.append(_trained(_read(path), path.name))
    for path in sorted(folder.glob("compare-*.json")):
        parts.append(_compared(_read(path), path.name))
    return "\n".join([*parts, NOTES])


def _trained(run: dict[str, Any], name: str) -> str:
    """Of one model: its ``run.json``."""
    spec, final, cost = run["spec"], run["final"], run["cost"]
    rows = [
        {
            "written": way,
            "BLEU": formatting.score(one["bleu"]),
            "BLEU, one reference": formatting.score(one["bleu_single"]),
            "chrF": formatting.score(one["chrf"]),
            "tokens per second": formatting.count(one["tokens_per_second"]),
        }
        for way, one in run["written"].items()
    ]
    lines = [
        f"## {TranslationModel.model_validate(spec['model']).name} on {spec['data']['corpus']}, "
        f"trained for {formatting.duration(cost['seconds'])}",
        "",
        f"{run['parameters'] / 1e6:.2f} M parameters, "
        f"{spec['threads']} {'thread' if spec['threads'] == 1 else 'threads'} "
        f"({run['steps']:,} steps, {run['history'][-1]['epoch']:.2f} epochs, "
        f"{formatting.count(cost['tokens_per_second'])} target tokens a second). "
        f"{spec['data']['test']['sources']:,} test sentences. Every figure is in "
        f"{_link(name)}.",
        "",
    ]
    if "perplexity" in final:
        lines += [
            f"Test loss {formatting.loss(final['loss'])}, perplexity "
            f"{formatting.perplexity(final['perplexity'])}, exposure "
            f"{formatting.loss(final['exposure'], signed=True)}.",
            "",
        ]
    return "\n".join([*lines, *_table(rows), ""])


def _compared(results: dict[str, Any], name: str) -> str:
    """Of a comparison: its ``results.json``."""
    model, data = results["model"], results["data"]
    lines = [
        f"## {model['name']} on {data['name']}",
        "",
        f"`{results['command']}`: {model['parameters'] / 1e6:.2f} M parameters, "
        f"{data['pairs']['train']:,} pairs, {data['pairs']['test']:,} test sentences, "
        f"{len(results['experiment']['seeds'])} seeds, {results['steps']} steps a run. Every "
        f"figure is in {_link(name)} ({results['created'][:10]}, "
        f"{results['machine']['processor']}).",
        "",
        f"**{results['verdict']}**",
        "",
        *_table(score_rows(results)),
        "",
    ]
    if results["differences"]:
        rows = difference_rows(results)
        lines += [*_table([_without(row, "against", "each seed") for row in rows]), ""]
    return "\n".join([*lines, *_table(cost_rows(results)), ""])


def _without(row: dict[str, str], *names: str) -> dict[str, str]:
    return {name: cell for name, cell in row.items() if name not in names}


def _table(rows: list[dict[str, str]]) -> list[str]:
    heads = list(rows[0])
    rule = ["---", *("---:" if head != "verdict" else "---" for head in heads[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (heads, rule, *(row.values() for row in rows))]


def _link(name: str) -> str:
    place = f"benchmarks/results/translation/{name}"
    return f"[{place}](../../{place})"


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


if __name__ == "__main__":
    PAGE.write_text(render(), "utf-8")
    print(PAGE)
