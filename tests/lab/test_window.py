"""A rolling window in an experiment: its store writes what the next epoch draws anew."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from maskwright import Vocabulary
from maskwright.errors import ConfigError
from maskwright.lab.guided import GuidedTraining
from tests.lab import tiny

TABLE = SimpleNamespace(lengths=np.array([9, 4, 7]))


def policy_of(text, **settings):
    return tiny.experiment(text, policies={"dynamic": {}, "mine": settings}).policies["mine"]


@pytest.mark.parametrize("refresh, width", [("window-4", 4), ("dynamic", None)])
def test_the_store_has_the_window_of_the_policy(text, tmp_path, refresh, width):
    policy = policy_of(text, recipe="attention-guided", refresh=refresh)
    assert str(policy.masking().refresh) == refresh
    run = GuidedTraining.open(policy, tmp_path, TABLE, np.array([0, 2]), Vocabulary(30), seed=0)
    assert run.store.update_window == width
    run.close()


def test_a_policy_that_cannot_have_one_is_refused_with_its_name(text):
    rate = {"schedule": "linear", "start": 0.3, "end": 0.15}
    with pytest.raises(ConfigError, match=r"mine.*changes from step to step"):
        policy_of(text, rate=rate, refresh="window-512")
