"""The live display of a comparison: a bar for all, and a line for each run that is going on."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from maskwright.lab.compare import Watcher
from maskwright.lab.pool import Event
from maskwright.lab.work import Work


class Display(Watcher):
    """Bars in a terminal; elsewhere a line for each run that is finished."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description:<32}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[value]}", style="cyan"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.tasks: dict[str, TaskID] = {}
        self.steps: dict[str, int] = {}
        self.values: dict[str, str] = {}
        self.total: TaskID | None = None
        self.runs = self.finished = 0

    def note(self, text: str) -> None:
        self.console.print(text, style="dim", highlight=False)

    def begin(self, jobs: list[Work], done: set[str]) -> None:
        self.runs, self.finished = len(jobs), len(done)
        if done:
            self.note(f"{len(done)} of {len(jobs)} runs were finished before and are kept.")
        steps = sum(job.total_steps for job in jobs)
        kept = sum(job.total_steps for job in jobs if job.name in done)
        self.total = self.progress.add_task(
            "all runs (steps)", total=steps, completed=kept, value=""
        )
        self.progress.start()

    def event(self, event: Event) -> None:
        name = event.job.name
        if name not in self.tasks:
            self.tasks[name] = self.progress.add_task(
                name, total=event.job.total_steps, value="", completed=event.step
            )
        if event.value is not None:
            self.values[name] = f"{event.job.measure} {event.value:.3f}"
        step = max(event.step, self.steps.get(name, 0))
        value = self.values.get(name, "")
        self.progress.update(self.tasks[name], completed=step, value=value)
        if self.total is not None:
            self.progress.advance(self.total, step - self.steps.get(name, 0))
        self.steps[name] = step
        if event.done:
            self.finished += 1
            self.progress.remove_task(self.tasks[name])
            self.console.print(
                f"[dim]{self.finished:>3}/{self.runs}[/dim] {name}  [cyan]{value}[/cyan]",
                highlight=False,
            )

    def end(self) -> None:
        self.progress.stop()
