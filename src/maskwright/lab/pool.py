"""Runs several jobs at a time, each in a process of its own, and tells how far they are."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import queue
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskwright.errors import MaskwrightError
from maskwright.lab.fine_tune import TaskJob, fine_tune
from maskwright.lab.run import Job, execute
from maskwright.lab.work import Work
from maskwright.worker_process import end_with_parent, no_interrupt


@dataclass(frozen=True)
class Event:
    """News of a job: its step, its `Work.measure` where just taken, whether it is done."""

    job: Work
    step: int
    value: float | None = None
    done: bool = False


@dataclass(frozen=True)
class Shared:
    """What every worker process opens once."""

    tokenizer: Path
    train: Path
    held_out: Path
    experiment: dict[str, Any]


class RunFailed(MaskwrightError):
    """A run ended with an error; the finished ones are kept."""


def run_all(
    jobs: Iterable[Work],
    done: set[str],
    shared: Any,
    *,
    workers: int,
    tell: Callable[[Event], None],
    begin: Callable[[Any, Any], None] | None = None,
    work: Callable[[Any], None] | None = None,
) -> None:
    """Runs every job whose name is not in ``done``, a job after the one that it needs.

    Args:
        shared: what every worker opens; a `Shared`, unless ``begin`` takes something else.
        begin: called once in each worker with ``shared`` and the queue of news; functions of a
            module, as is ``work``, which does one job. Unless given, they are those of masked
            language models.

    Raises:
        RunFailed: a job failed. Jobs that had begun are finished first, and their results kept.
        KeyboardInterrupt: Ctrl-C; the workers are ended in the middle of their jobs.
    """
    by_name = {job.name: job for job in jobs}
    by_result = {job.result: job for job in by_name.values()}
    waiting = {name: job for name, job in by_name.items() if name not in done}
    finished = set(done)
    if not waiting:
        return
    context = multiprocessing.get_context("spawn")
    news: Any = context.Queue()
    running: dict[Future[None], Work] = {}
    failure: tuple[Work, BaseException] | None = None
    workers = min(workers, len(waiting))
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, begin or _open, (shared, news))
    try:
        while running or (waiting and failure is None):
            ready = [
                job
                for job in waiting.values()
                if job.needs is None or by_result[job.needs].name in finished
            ]
            # no more than there are workers: what was not handed out need not be taken back
            for job in ready[: workers - len(running)] if failure is None else []:
                del waiting[job.name]
                with no_interrupt():  # a worker process is started here, and inherits it
                    running[pool.submit(work or _work, job)] = job
            ended, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            _drain(news, tell, by_name)
            for future in ended:
                job = running.pop(future)
                error = future.exception()
                if error is not None:
                    failure = failure or (job, error)
                else:
                    finished.add(job.name)
                    tell(Event(job, job.total_steps, done=True))
    except BaseException:
        # Ctrl-C: nobody wants to wait for the end of a run. What it saves is renamed into place
        # when it is whole, so the process may end at any moment.
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if failure is not None:
        job, error = failure
        if isinstance(error, MaskwrightError):
            raise error
        what = (
            "its process was ended from outside (out of memory?)"
            if isinstance(error, BrokenProcessPool)
            else f"{type(error).__name__}: {error}"
        )
        raise RunFailed(
            f"The run {job.name} failed: {what}. Finished runs are kept; the same command goes on."
        ) from error


def _drain(news: Any, tell: Callable[[Event], None], jobs: dict[str, Work]) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            name, step, value = news.get_nowait()
            tell(Event(jobs[name], step, value))


# -- in the worker process ---------------------------------------------------------------

_worker: dict[str, Any] = {}


def _open(shared: Shared, news: Any) -> None:
    end_with_parent()
    import torch
    import transformers

    from maskwright.data.table import TokenTable
    from maskwright.lab.config import parse
    from maskwright.lab.preparation import held_out_set

    # The display shows what matters. What is silenced besides are the bars of loading and saving,
    # and the notice that an encoder without an output head gets a new one, once for every run.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    experiment = parse(shared.experiment)
    torch.set_num_threads(experiment.threads)
    tokenizer = transformers.AutoTokenizer.from_pretrained(shared.tokenizer)
    _worker.update(
        tokenizer=tokenizer,
        table=TokenTable.open(shared.train),
        held_out=held_out_set(TokenTable.open(shared.held_out), tokenizer, experiment),
        news=news,
    )
    # every run ends with a collection, which need not go through all that was imported
    gc.freeze()


def _work(job: Job | TaskJob) -> None:
    def tell(step: int, value: float | None) -> None:
        _worker["news"].put((job.name, step, value))

    if isinstance(job, TaskJob):
        fine_tune(job, _worker["tokenizer"], tell)
    else:
        execute(job, _worker["table"], _worker["tokenizer"], _worker["held_out"], tell)
