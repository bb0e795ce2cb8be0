"""Two Guidance callbacks in one run: both work, or the second is refused."""

from __future__ import annotations

import numpy as np
import pytest

from maskwright.errors import ConfigError
from maskwright.guidance import ScoreStore
from maskwright.hf import Guidance
from tests.hf.guided.runs import LENGTHS, prepare, train


def both(path, kind="ours", resume=None, first=None, second=None, same=False, **changes):
    """A run guided by attention, with a second callback that keeps losses."""
    run = prepare(path, kind, guidance=first, **changes)
    file = path / "losses.store"
    store = ScoreStore.open(file) if file.exists() else ScoreStore.create(file, LENGTHS)
    store = run.store if same else store
    one = Guidance(store, **({"source": "loss"} | (second or {})))
    run.trainer.add_callback(one)
    run.trainer.train(resume_from_checkpoint=resume)
    return run, one


EVERY = np.arange(len(LENGTHS))


def test_each_keeps_its_own_scores_as_if_it_were_alone(tmp_path):
    run, second = both(tmp_path / "both")
    alone = train(tmp_path / "alone", "ours")
    # the losses of single tokens are summed in another order where somebody asks for them
    assert run.losses == pytest.approx(alone.losses, rel=1e-4)
    np.testing.assert_allclose(run.scores, alone.scores, rtol=1e-2)
    losses = second.store.read(EVERY).values
    selected = ~np.isnan(losses)
    assert 0.1 < selected.mean() < 0.9
    assert losses[selected].min() > 1  # nats of a model that knows nothing, not shares of attention
    line = next(e for e in run.trainer.state.log_history if "loss" in e)
    assert {"guidance/scored", "guidance-loss/scored"} < set(line)


def test_a_resume_brings_both_back(tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 8}
    whole, losses = both(tmp_path, **settings)
    wanted = [whole.scores, losses.store.read(EVERY).values]
    seen = whole.losses
    checkpoint = tmp_path / "run" / "checkpoint-8"
    assert (checkpoint / "guidance-loss" / "scores.maskwright").is_file()
    whole.store.close(), losses.store.close()
    again, losses = both(tmp_path, resume=str(checkpoint), **settings)
    assert again.losses == seen
    np.testing.assert_array_equal(again.scores, wanted[0])
    np.testing.assert_array_equal(losses.store.read(EVERY).values, wanted[1])


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"same": True}, "would mix"),
        ({"second": {"source": "attention"}}, "take the same scores, source='attention'"),
        (
            {"first": {"spike": 3.0}, "second": {"entropy_floor": 1.0}},
            "would withhold scores",
        ),
        ({"kind": "plain"}, "Use MaskingTrainer"),
    ],
    ids=["one store", "one source", "two rules", "plain"],
)
def test_two_that_would_disturb_each_other_are_refused(settings, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        both(tmp_path, **settings)


@pytest.mark.slow
def test_one_of_a_trainer_before_makes_room(tmp_path):
    first = train(tmp_path / "one", "ours", epochs=1)
    second = train(tmp_path / "two", "ours", epochs=1, model=first.trainer.model)
    assert not np.isnan(second.scores).all()
    assert first.guidance._handles == []
