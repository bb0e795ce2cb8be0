"""Whether a run can be guided as it is set up; if not, what to change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from maskwright.corruption import Above, Cautious, RollingWindow, Weighted
from maskwright.errors import ConfigError
from maskwright.guidance import ScoreStore
from maskwright.hf.batches.token_budget import TokenBudgetSampler
from maskwright.hf.collator import MaskingCollator
from maskwright.hf.guided.places import Texts, moves, texts_of
from maskwright.hf.guided.spikes import AHEAD, Spikes
from maskwright.hf.samples import ClockedSampler


@dataclass(frozen=True, eq=False)
class GuidedRun:
    """A run that can be guided.

    Args:
        collator: that makes its batches, as the loader has it.
        clocked: whether each batch knows its step, as those of `MaskingTrainer` do.
    """

    collator: MaskingCollator
    clocked: bool

    @property
    def moves(self) -> bool:
        """Whether tokens do not stand where they stood, so that batches say where they are."""
        return moves(self.collator.masking.emit)

    @property
    def texts(self) -> Texts:
        """On which side of an encoder–decoder the samples' tokens are read."""
        return texts_of(self.collator.masking.emit)


def check_run(
    args: Any, state: Any, loader: Any, store: ScoreStore, source: str, spikes: Spikes
) -> GuidedRun:
    """The collator of a run, if the run can be guided.

    Raises:
        ConfigError: it cannot; the message says why, and what to change.
    """
    collator = loader.collate_fn
    while not isinstance(collator, MaskingCollator):
        # a plain Trainer wraps it, to take columns away
        inside = getattr(collator, "data_collator", None)
        if inside is None:
            raise ConfigError(
                "Guidance needs data_collator=MaskingCollator(tokenizer, masking, scores=store, "
                f"carry=True), got {type(collator).__name__}."
            )
        collator = inside
    clocked = _has_clock(loader)
    _check_collator(collator, store, spikes)
    _check_window(collator, store, spikes)
    _check_arguments(args, state, source, clocked)
    if state.global_step == 0 and store.visits(_all(store)).any():
        raise ConfigError(
            f"{store.path} has scores of another run, whose steps are not those of this one. "
            "Create a new store; to begin with these scores: new.initialise(old). To go on with "
            "that run: trainer.train(resume_from_checkpoint=…)."
        )
    ahead = args.dataloader_num_workers * (args.dataloader_prefetch_factor or 2) + 2
    if spikes.active and ahead > AHEAD * args.gradient_accumulation_steps:
        raise ConfigError(
            f"With {spikes.rules} workers may read at most {AHEAD} steps ahead, or masks "
            f"would depend on their number; here it may be {ahead} batches. Use fewer workers."
        )
    return GuidedRun(collator, clocked)


def _check_collator(collator: MaskingCollator, store: ScoreStore, spikes: Spikes) -> None:
    if not collator.carry:
        raise ConfigError(
            "Guidance needs to know the samples of each batch: MaskingCollator(…, carry=True)."
        )
    masking = collator.masking
    selects = list(_selects(masking))
    scored = any(isinstance(one, Above | Weighted | Cautious) for one in selects)
    if scored and collator.scores is None:
        raise ConfigError(
            "The policy goes by scores, but the collator reads none: "
            "MaskingCollator(…, scores=store)."
        )
    if moves(masking.emit) and collator.scores is None:
        raise ConfigError(
            f"With emit={masking.emit} the model reads other positions than the sample has, and "
            "only batches of a collator with scores say which is which: MaskingCollator(…, "
            "scores=store)."
        )
    bare = [one for one in selects if isinstance(one, Above | Weighted)]
    covered = [part for one in selects if isinstance(one, Cautious) for part in _selects(one)]
    if spikes.active and any(not any(one is other for other in covered) for one in bare):
        raise ConfigError(
            f"{spikes.rules}: while scores are withheld, {bare[0]} would select nothing. "
            "Say what is drawn then: Cautious(select, start_rate=…)."
        )


def _check_window(collator: MaskingCollator, store: ScoreStore, spikes: Spikes) -> None:
    """A tile that is not drawn anew must be drawn by the scores that it was drawn by."""
    refresh, width = collator.masking.refresh, None
    if isinstance(refresh, RollingWindow) and collator.masking.reads_scores:
        width = refresh.width
    if store.update_window != width:
        raise ConfigError(
            f'The policy has refresh="{refresh}", and {store.path} has update_window='
            f"{store.update_window}: what a visit writes must be what the next one draws anew, and "
            f"no more. Create another: ScoreStore.create(path, lengths, update_window={width})."
        )
    if width is None:
        return
    if getattr(collator.scores, "update_window", None) != width:
        raise ConfigError(
            f'refresh="{refresh}" keeps tiles as they were drawn, and the scores of '
            f"{type(collator.scores).__name__} may change under them. Let the collator read the "
            "store: MaskingCollator(…, scores=store)."
        )
    if spikes.active:
        raise ConfigError(
            f"{spikes.rules} would withhold the scores of whole samples, and so change tiles that "
            f'refresh="{refresh}" keeps. Leave it out, or use refresh="dynamic".'
        )


def _check_arguments(args: Any, state: Any, source: str, clocked: bool) -> None:
    if args.world_size > 1 and not args.dataloader_drop_last:
        raise ConfigError(
            "On several ranks the last batches are filled up with samples that were there before, "
            "and two visits in one step have no order: set dataloader_drop_last=True."
        )
    if args.n_gpu > 1:
        raise ConfigError(
            "Guidance does not work under DataParallel (one process, several GPUs). Start one "
            "process a GPU, with torchrun, or set CUDA_VISIBLE_DEVICES."
        )
    if args.torch_compile and source == "attention":
        raise ConfigError(
            'source="attention" looks into the model while it runs, which torch_compile=True '
            "would freeze. Train without it, or use another source."
        )
    if getattr(state, "is_hyper_param_search", False):
        raise ConfigError(
            "Trials of a hyperparameter search cannot share one ScoreStore. Guide a single run."
        )
    if not clocked and str(getattr(args.eval_strategy, "value", args.eval_strategy)) != "no":
        raise ConfigError(
            "A plain Trainer would mask evaluation samples by the scores of training samples of "
            "the same number. Use MaskingTrainer, whose evaluation masks go by no scores, or set "
            'eval_strategy="no" and evaluate with another collator.'
        )


def _has_clock(loader: Any) -> bool:
    """Whether the loader's indices carry their clock."""
    one = loader
    while one is not None:
        if isinstance(one, ClockedSampler | TokenBudgetSampler):
            return True
        inside = getattr(one, "batch_sampler", None)
        one = getattr(one, "sampler", None) if inside is None else inside
    return False


def _selects(value: Any) -> Iterator[Any]:
    """Everything that a policy is made of, itself first."""
    yield value
    parts: list[Any] = []
    if is_dataclass(value):
        parts = [getattr(value, field.name, None) for field in fields(value)]
    elif isinstance(value, list | tuple):
        parts = list(value)
    for part in parts:
        if is_dataclass(part) or isinstance(part, list | tuple):
            yield from _selects(part)


def _all(store: ScoreStore) -> Any:
    import numpy as np

    return np.arange(len(store))
