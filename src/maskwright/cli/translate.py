"""Translation in the commands `train` and `compare`."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from maskwright.cli.options import listed, open_console, quiet, require
from maskwright.cli.progress import Display
from maskwright.lab.pool import Event
from maskwright.lab.translate.train import TrainingWatcher

_REFRESH = 0.5  # seconds between two looks at the clock


def train_translation(
    *,
    file: Path | None,
    preset: str | None,
    model: str | None,
    decoder_mask: str | None,
    cross_mask: str | None,
    minutes: float | None,
    epochs: float | None,
    steps: int | None,
    seed: int,
    out: Path | None,
    changes: list[str],
) -> None:
    """`maskwright train --task translate`."""
    from maskwright.lab.preparation import one_line
    from maskwright.lab.translate.settings import TO_TRAIN, load_translation
    from maskwright.lab.translate.train import train_translation as run

    quiet()
    experiment = load_translation(
        TO_TRAIN,
        file=file,
        preset=preset,
        model=model,
        decoder=None if decoder_mask is None else [decoder_mask],
        cross=None if cross_mask is None else [cross_mask],
        budget={"minutes": minutes, "epochs": epochs, "steps": steps},
        changes=changes,
    )
    out = out or Path("runs/translate")
    result = run(
        experiment,
        out,
        decoder=decoder_mask,
        cross=cross_mask,
        seed=seed,
        watcher=TrainingDisplay(open_console(stderr=True)),
    )
    console = open_console()
    print_written(console, result)
    console.print(f"Model: {one_line(out)}", highlight=False, soft_wrap=True)


def compare_translation(
    *,
    file: Path | None,
    preset: str | None,
    decoder_masks: str | None,
    cross_masks: str | None,
    model: str | None,
    seeds: int | None,
    out: Path | None,
    changes: list[str],
) -> None:
    """`maskwright compare --task translate`."""
    require("jinja2", "matplotlib")  # the report comes last, and would miss them after hours
    from maskwright.cli.show_translation import print_translation
    from maskwright.lab.preparation import one_line
    from maskwright.lab.translate.compare import compare_translation as run
    from maskwright.lab.translate.settings import TO_COMPARE, load_translation
    from maskwright.report.translation import write_translation_report

    quiet()
    experiment = load_translation(
        TO_COMPARE,
        file=file,
        preset=preset,
        model=model,
        decoder=listed(decoder_masks),
        cross=listed(cross_masks),
        changes=changes,
        seeds=seeds,
    )
    out = out or Path("runs/translate-compare")
    command = shlex.join(["maskwright", *sys.argv[1:]])
    results = run(experiment, out, command=command, watcher=Display(open_console(stderr=True)))
    report = write_translation_report(results, out / "report.html")
    console = open_console()
    print_translation(console, results)
    console.print(f"Report: {one_line(report)}", highlight=False, soft_wrap=True)


class TrainingDisplay(TrainingWatcher):
    """One bar for one run: how far its budget is spent, how fast it goes, its losses."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[rate]}", style="cyan"),
            TextColumn("{task.fields[loss]}", style="cyan"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task("training", total=1.0, rate="", loss="", left="")
        self.budget: Any = None
        self.trainer: Any = None
        self.shown = 0.0

    def note(self, text: str) -> None:
        self.console.print(text, style="dim", highlight=False)

    def begin(self, jobs: list[Any], done: set[str]) -> None:
        self.progress.start()

    def watching(self, budget: Any, trainer: Any) -> None:
        """Before training: what tells how far it is."""
        self.budget, self.trainer = budget, trainer

    def event(self, event: Event) -> None:
        if event.value is not None:
            self.progress.update(self.task, loss=f"held-out loss {event.value:.3f}")
            if not self.console.is_terminal:
                self.note(f"step {event.step:>6,}  held-out loss {event.value:.3f}")
        now = time.monotonic()
        if event.value is None and now - self.shown < _REFRESH:
            return
        self.shown = now
        spent = self.budget.watch.read()["seconds"]
        share = self.budget.progress(event.step)
        rate = self.trainer.predicted_tokens / spent if spent else 0.0
        left = spent * (1 - share) / share if share else 0.0
        self.progress.update(
            self.task,
            completed=share,
            rate=f"{rate:,.0f} tokens/s",
            left=f"{left / 60:.1f} min left" if share < 1 else "translating",
        )

    def end(self) -> None:
        self.progress.stop()


def print_written(console: Console, result: dict[str, Any]) -> None:
    """How well a trained model translates, in each way to write."""
    if "perplexity" in result["final"]:
        final = result["final"]
        console.print(
            f"Test loss {final['loss']:.3f}, perplexity {final['perplexity']:.2f}, accuracy "
            f"{final['accuracy']:.1%}, exposure {final['exposure']:+.3f}",
            highlight=False,
        )
    table = Table(header_style="bold", box=None, pad_edge=False)
    table.add_column("written")
    for head in ("BLEU", "chrF", "BLEU, one reference", "tokens/s"):
        table.add_column(head, justify="right")
    lagging = any("lagging" in one for one in result["written"].values())
    if lagging:
        table.add_column("lagging", justify="right")
    for name, one in result["written"].items():
        row = [f"{one['bleu']:.1f}", f"{one['chrf']:.1f}", f"{one['bleu_single']:.1f}"]
        row.append(f"{one['tokens_per_second']:,.0f}")
        table.add_row(name, *row, *([f"{one['lagging']:.1f}"] if lagging else []))
    console.print(table)
