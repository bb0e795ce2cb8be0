"""After a spike of the loss, masks are drawn by chance for a while: the same steps every time."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright.errors import ConfigError
from maskwright.hf.guided.spikes import AHEAD, EVERY, Spikes
from tests.hf.guided.runs import ROWS, TRAINERS, Broken, prepare
from tests.hf.guided.test_runs import planned


def fed(losses, factor=3.0, pause=10) -> tuple[Spikes, list[int]]:
    spikes = Spikes(factor, pause)
    return spikes, [i for i, loss in enumerate(losses) if spikes.see(i, i // 7, loss)]


@pytest.mark.parametrize(
    "losses, found",
    [
        ([1.0] * 16 + [3.1], [16]),
        ([1.0] * 16 + [3.0], []),  # above, not at
        ([1.0] * 15 + [9.0], []),  # too early to know
        ([1.0] * 16 + [math.nan, math.inf, 1.0], [16, 17]),
        ([math.nan] * 16 + [9.0], []),
        ([1.0] * 16 + [4.0] * 16 + [4.0], list(range(16, 32))),  # then the median is 4
    ],
)
def test_a_spike_is_above_the_factor_times_the_median(losses, found):
    assert fed(losses)[1] == found


def test_without_a_factor_nothing_is_a_spike():
    assert fed([1.0] * 20 + [math.inf], factor=None)[1] == []


@given(at=st.integers(16, 200), pause=st.integers(1, 50))
def test_it_begins_when_no_batch_can_have_been_read_before_it_was_noticed(at, pause):
    spikes, found = fed([1.0] * at + [9.0], pause=pause)
    assert found == [at]
    noticed = (at // EVERY + 1) * EVERY  # the step that the queue is drained after, at the latest
    assert spikes.first == noticed + AHEAD
    assert spikes.last == spikes.first + pause
    assert spikes.epoch == at // 7 + 1


def test_a_second_spike_makes_it_longer():
    spikes, _ = fed([1.0] * 16 + [9.0], pause=10)
    first, last = spikes.first, spikes.last
    assert spikes.see(16 + EVERY, 3, 9.0)
    assert (spikes.first, spikes.last) == (first, last + EVERY)


@given(st.lists(st.floats(0.1, 50), max_size=120), st.integers(0, 120))
def test_what_a_checkpoint_keeps_is_enough(losses, cut):
    whole, _ = fed(losses)
    begun, _ = fed(losses[:cut])
    resumed = Spikes(begun.factor, begun.pause)
    resumed.restore(begun.state())
    for i, loss in enumerate(losses[cut:], min(cut, len(losses))):
        resumed.see(i, i // 7, loss)
    assert resumed == whole


@pytest.mark.parametrize("settings", [{"factor": 1.0}, {"factor": math.inf}, {"pause": 0}], ids=str)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ConfigError):
        Spikes(**settings)


STEPS = 66  # 11 epochs of 6 steps


def spiked(path, kind, resume=None, **others):
    """A run whose loss seems to jump at step 20; by chance from step 48, or in epoch 4."""
    run = prepare(
        path, kind, epochs=11, guidance={"spike": 3.0, "pause": 8}, learning_rate=1e-5,
        save_strategy="steps", save_steps=50 if kind == "ours" else 26, **others,
    )  # fmt: skip
    observe = run.guidance.observe
    run.guidance.observe = lambda seen: observe(
        replace(seen, loss=seen.loss * (10 if run.trainer.state.global_step == 20 else 1))
    )
    run.trainer.train(resume_from_checkpoint=resume)
    return run


def by_chance(run, first=0) -> set[int]:
    """The steps all of whose masks are those without scores."""
    number = {tuple(row["input_ids"]): i for i, row in enumerate(ROWS)}
    rows, collator, found = run.selected(), run.trainer.data_collator, set()
    for step in range(len(rows) // 4):
        epoch = (first + step) // 6
        if all(
            chosen == planned(collator, number[tokens], epoch, None)
            for tokens, chosen in rows[step * 4 : step * 4 + 4]
        ):
            found.add(first + step)
    return found


@pytest.mark.parametrize("kind", TRAINERS)
def test_masks_are_by_chance_for_a_while(kind, tmp_path):
    expected = set(range(48, 56)) if kind == "ours" else set(range(24, 30))
    whole = spiked(tmp_path / "whole", kind)
    assert by_chance(whole) == set(range(6)) | expected
    logs = [e["guidance/by_chance"] for e in whole.trainer.state.log_history if "loss" in e]
    assert {step for step, chance in enumerate(logs) if chance} == expected
    # killed in the midst of it, and resumed
    saved = 50 if kind == "ours" else 26
    with pytest.raises(Broken):
        spiked(tmp_path / "killed", kind, kill=saved + 3)
    checkpoint = tmp_path / "killed" / "run" / f"checkpoint-{saved}"
    resumed = spiked(tmp_path / "killed", kind, resume=str(checkpoint))
    assert resumed.losses == whole.losses
    assert by_chance(resumed, saved) == {step for step in expected if step >= saved}
    np.testing.assert_array_equal(resumed.scores, whole.scores)


@pytest.mark.parametrize("workers", [2])
def test_workers_that_read_ahead_change_nothing(workers, tmp_path):
    alone = spiked(tmp_path / "alone", "ours")
    several = spiked(
        tmp_path / "several", "ours", dataloader_num_workers=workers, dataloader_prefetch_factor=4
    )
    assert several.seen == alone.seen
