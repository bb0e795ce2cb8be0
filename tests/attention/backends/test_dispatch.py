"""Which backend is chosen, with which reason; and what is refused."""

from __future__ import annotations

import pytest
import torch

from maskwright.attention import Axis, causal, documents, full, nothing, padding, window
from maskwright.attention.backends.dispatch import BACKENDS, choose
from maskwright.errors import AxisError, BackendError, BatchError

long = Axis(2048)
eight = Axis.packed([256] * 8)
half_padded = Axis.padded(torch.arange(512) < torch.tensor([[128], [256], [256], [384]]))


@pytest.mark.parametrize(
    "pattern, q, kv, backend, reason",
    [
        (full, long, long, "sdpa", "no mask"),
        (padding, long, long, "sdpa", "no mask"),
        (causal, long, long, "sdpa", "flag"),
        (window(4096, 0), long, long, "sdpa", "flag"),
        (causal, Axis(1), long, "sdpa", "no mask"),
        (causal("upper-left"), Axis(128), long, "sdpa", "flag"),
        (causal, Axis(16), long, "sdpa", "with a mask"),
        (padding, Axis(1), half_padded, "sdpa", "a single query"),
        (documents, eight, eight, "document", "8 rectangles hold 12.5% of the pairs"),
        (causal & documents, eight, eight, "blocksparse", "7.8% of the pairs"),
        (padding, half_padded, half_padded, "document", "4 rectangles hold 50.0%"),
        (documents, Axis.packed([4] * 4), Axis.packed([4] * 4), "sdpa", "with a mask"),
        (~window(2), long, long, "sdpa", "with a mask"),
        (nothing, long, long, "blocksparse", "0.0% of the pairs"),
        (window(64), long, long, "blocksparse", "9.2% of the pairs"),
        (causal & window(256, 0), long, long, "blocksparse", "of the pairs lie in blocks"),
        (window(8), Axis(64), Axis(64), "sdpa", "with a mask"),
    ],
    ids=str,
)
def test_the_rule_of_choice(pattern, q, kv, backend, reason):
    chosen = choose(pattern, q, kv, heads=8)
    assert (chosen.backend, reason in chosen.reason) == (backend, True), chosen


def test_a_choice_says_what_every_backend_would_take_or_why_it_cannot():
    chosen = choose(documents, eight, heads=8)
    assert set(chosen.estimates) | set(chosen.refusals) == set(BACKENDS)
    assert not set(chosen.estimates) & set(chosen.refusals)
    assert chosen.estimates["document"] == pytest.approx(0.15, abs=0.01)
    assert chosen.estimates["document"] == min(chosen.estimates.values())


def test_dropout_goes_to_those_who_can():
    assert choose(documents, eight, heads=8, dropout=0.1).backend == "document"
    chosen = choose(window(8), long, dropout=0.1)
    assert chosen.backend == "sdpa"
    assert "dropout" in chosen.refusals["flex"]


@pytest.mark.parametrize(
    "backend, pattern, options, why",
    [
        ("flex", causal, {"training": True}, "no backward on a CPU"),
        ("flex", causal, {"training": False, "dropout": 0.1}, "no dropout"),
        ("blocksparse", causal, {"dropout": 0.1}, "no dropout"),
        ("flex", nothing, {"training": False}, "nothing to run"),
        ("document", window(3), {}, "neither documents nor padding"),
    ],
)
def test_what_a_backend_cannot_is_refused_with_the_reason_and_the_others(
    backend, pattern, options, why
):
    with pytest.raises(BackendError, match=why) as caught:
        choose(pattern, Axis(64), backend=backend, **options)
    assert "Those that can: sdpa" in str(caught.value)
    assert f"`{pattern}`" in str(caught.value)


def test_an_unknown_backend_is_told_from_those_there_are():
    with pytest.raises(BackendError, match=r"'sdap'. Did you mean 'sdpa'\?"):
        choose(full, long, backend="sdap")


def test_a_backend_that_was_asked_for_is_taken():
    assert choose(causal, long, backend="dense").backend == "dense"
    assert choose(causal, long, backend="dense").reason == "asked for by name"


def test_what_does_not_fit_is_refused():
    with pytest.raises(BatchError, match="6 heads, key has 4"):
        choose(full, long, heads=6, kv_heads=4)
    with pytest.raises(AxisError, match="the kv axis: a batch of 4; the tensors have 3"):
        choose(padding, Axis(7), half_padded, batch=3)
