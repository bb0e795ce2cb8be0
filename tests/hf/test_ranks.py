"""Laws 2 and 8 over ranks: several processes see together what one sees, and take the same steps.

Each step has 12 samples, however many ranks share them. Ranks are forks of this process, over
torch.distributed with gloo; one rank is this process.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.hf import rank
from tests.hf.forked import on_ranks

ROOT = Path(__file__).parents[2]
slow = pytest.mark.slow  # two ranks show it, these take time


@dataclass(frozen=True)
class Run:
    """What each rank saw, and where the checkpoint is."""

    ranks: list[dict[str, Any]]
    checkpoint: str

    @property
    def steps(self) -> list[tuple[list[int], list[list[int]], list[Any]]]:
        """Of each step the sample ids in the order of the ranks, the clocks, and the views."""
        together = zip(*(seen["batches"] for seen in self.ranks), strict=True)
        return [
            (
                [i for ids, *_ in parts for i in ids],
                [clock for _, clock, *_ in parts],
                [view for _, _, views, _ in parts for view in views],
            )
            for parts in together
        ]


def run(folder: Path, world: int, *checkpoint: str, policy: str = "decay") -> Run:
    """Trains with ``world`` ranks, from the beginning or from a checkpoint."""
    saved = str(folder / "run" / f"checkpoint-{rank.SAVED}")
    if world == 1:
        seen = rank.train(folder / "run", rank.STEP, policy, *checkpoint)
        return Run([json.loads(json.dumps(seen))], saved)  # tuples become lists
    batch = rank.STEP // world
    found = on_ranks(world, lambda _: rank.train(folder / "run", batch, policy, *checkpoint))
    return Run(json.loads(json.dumps(found)), saved)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Callable[[int], Run]:
    """The uninterrupted run of a number of ranks, made once."""
    made: dict[int, Run] = {}

    def of(world: int) -> Run:
        if world not in made:
            made[world] = run(tmp_path_factory.mktemp(f"{world}-ranks"), world)
        return made[world]

    return of


worlds = pytest.mark.parametrize("world", [2, pytest.param(3, marks=slow), 4])


@worlds
def test_each_step_has_the_same_samples_and_masks(world, whole):
    one, several = whole(1).steps, whole(world).steps
    assert len(one) == len(several) == rank.STEPS
    for (ids, (clock,), views), (all_ids, clocks, all_views) in zip(one, several, strict=True):
        assert len(ids) == rank.STEP
        assert all_ids == ids
        assert clocks == [clock] * world
        assert all_views == views


@worlds
def test_ranks_have_different_samples(world, whole):
    assert len(whole(world).ranks) == world
    for ids, *_ in whole(world).steps:
        assert len(set(ids)) == rank.STEP


@worlds
def test_the_losses_and_the_weights_are_the_same(world, whole):
    require_the_same_steps(whole(1), whole(world))


@slow
def test_weighed_losses_are_divided_over_ranks(tmp_path):
    """Masked diffusion: by the tokens of all ranks that might have been masked."""
    one, several = (run(tmp_path / str(n), n, policy="mdlm") for n in (1, 3))
    require_the_same_steps(one, several)


@slow
def test_the_learning_rate_follows_the_tokens_of_all_ranks(tmp_path):
    one, two = (run(tmp_path / str(n), n, policy="followed") for n in (1, 2))
    require_the_same_steps(one, two)
    assert two.ranks[0]["rates"] == one.ranks[0]["rates"]
    plain = run(tmp_path / "plain", 1)
    assert one.ranks[0]["rates"] != plain.ranks[0]["rates"]
    resumed = run(tmp_path / "resumed", 1, two.checkpoint, policy="followed")
    assert resumed.ranks[0]["rates"] == one.ranks[0]["rates"]


def test_batches_by_their_number_of_tokens(tmp_path):
    """Two batches a step: one rank takes them in turn, two take one each."""
    one, two = (run(tmp_path / str(n), n, policy="tokens") for n in (1, 2))
    want = samples_of_steps(one)
    assert sorted(want) == list(range(rank.STEPS))
    assert samples_of_steps(two) == want
    assert two.ranks[0]["losses"] == pytest.approx(one.ranks[0]["losses"], rel=1e-4)
    weights = one.ranks[0]["weights"]
    assert two.ranks[0]["weights"] == two.ranks[1]["weights"]
    assert two.ranks[0]["weights"] == pytest.approx(weights, rel=1e-3, abs=1e-4)
    resumed = run(tmp_path / "resumed", 1, two.checkpoint, policy="tokens")
    assert samples_of_steps(resumed) == {step: want[step] for step in want if step >= rank.SAVED}
    assert resumed.ranks[0]["weights"] == pytest.approx(weights, rel=1e-3, abs=1e-4)


def samples_of_steps(run: Run) -> dict[int, list[Any]]:
    """Of each step the samples of all ranks, and their views."""
    found: dict[int, list[Any]] = {}
    for seen in run.ranks:
        for ids, (_, step), views, _ in seen["batches"]:
            found.setdefault(step, []).extend(zip(ids, views, strict=True))
    return {step: sorted(pairs) for step, pairs in found.items()}


def require_the_same_steps(single: Run, several: Run) -> None:
    (one,), ranks, world = single.ranks, several.ranks, len(several.ranks)
    # a rank's loss is scaled by the number of ranks, because gradients are averaged over them
    losses = [[batch[3] for batch in seen["batches"]] for seen in ranks]
    means = [sum(parts) / world for parts in zip(*losses, strict=True)]
    assert means == pytest.approx([batch[3] for batch in one["batches"]], rel=1e-4)
    assert len(one["losses"]) == rank.STEPS
    assert ranks[0]["losses"] == pytest.approx(one["losses"], rel=1e-4)  # as they are logged
    for seen in ranks:
        assert seen["weights"] == ranks[0]["weights"]
        assert seen["weights"] == pytest.approx(one["weights"], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    "before, after",
    [
        (2, 1),
        pytest.param(2, 3, marks=slow),
        pytest.param(1, 4, marks=slow),
        pytest.param(4, 2, marks=slow),
    ],
)
def test_a_resume_with_another_number_of_ranks(before, after, whole, tmp_path):
    resumed = run(tmp_path, after, whole(before).checkpoint)
    assert len(resumed.steps) == rank.STEPS - rank.SAVED
    for new, old in zip(resumed.steps, whole(1).steps[rank.SAVED :], strict=True):
        assert new[0] == old[0]
        assert new[1] == old[1] * after
        assert new[2] == old[2]
    weights = whole(1).ranks[0]["weights"]
    assert resumed.ranks[0]["weights"] == pytest.approx(weights, rel=1e-3, abs=1e-4)
    assert resumed.ranks[0]["losses"][-1] == pytest.approx(
        whole(1).ranks[0]["losses"][-1], rel=1e-4
    )
