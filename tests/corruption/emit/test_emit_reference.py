"""Every emit against the slow reference, and its map of places, on any batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.corruption import reference_emit as slow
from maskwright.corruption.emit import FillInTheMiddle, Seq2Seq
from tests.corruption.emit.plans import POLICIES, SIDES, plans, unpadded

NAMES = sorted(POLICIES)


def expected_inputs(plan, name, row) -> list[tuple[int, int]]:
    if name in ("psm", "spm"):
        return slow.fill_in_the_middle(plan, row, 97, 98, 99, spm=name == "spm")
    if name == "decoder, all":
        return slow.shifted(plan, row, 0)
    return slow.corrupted(plan, row)


def expected_labels(plan, name, row) -> list[int]:
    targets = slow.targets_of(plan, row)
    units = slow.units_of(plan, row)
    if name in ("psm", "spm"):
        inputs, targets = expected_inputs(plan, name, row), slow.next_token_targets(plan, row)
        return [token if place < 0 else targets[place] for token, place in inputs]
    if name == "decoder, all":
        return slow.next_token_targets(plan, row)
    if name == "prefix":
        return slow.prefix_labels(plan, row)
    if name.startswith("t5"):
        return slow.spans(plan, row, closing=name == "t5", eos=name == "t5")
    if name == "mass":
        return [targets[place] for unit in units for place in unit]
    if name in ("mlm", "diffusion", "decoder, selected"):
        selected = {place for unit in units for place in unit}
        return [t if place in selected else -100 for place, t in enumerate(targets)]
    return targets


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(data=st.data(), side=SIDES, multiple=st.sampled_from([1, 8]))
def test_inputs_labels_and_origins_are_those_of_the_reference(name, data, side, multiple):
    plan = data.draw(plans(name))
    emit = plan.masking.emit
    batch = emit(plan, side=side, multiple=multiple)
    rows = range(len(plan.batch))
    wanted = [expected_inputs(plan, name, row) for row in rows]
    assert unpadded(batch.input_ids, batch.attention_mask) == [[t for t, _ in r] for r in wanted]
    assert unpadded(batch.origin, batch.attention_mask) == [[p for _, p in r] for r in wanted]
    assert (batch.origin[batch.attention_mask == 0] == -1).all()
    longest = max((len(row) for row in wanted), default=0)
    assert batch.input_ids.shape == (len(plan.batch), -(-longest // multiple) * multiple)

    labels = [expected_labels(plan, name, row) for row in rows]
    columns = batch.labels.shape[1]
    # labels of an encoder–decoder are padded on the right whatever the inputs are
    left = side == "left" and not isinstance(emit, Seq2Seq)
    padded = [
        [-100] * (columns - len(row)) + row if left else row + [-100] * (columns - len(row))
        for row in labels
    ]
    assert batch.labels.tolist() == padded
    assert ((batch.loss_weights > 0) == (batch.labels != -100)).all()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(data=st.data(), side=SIDES)
def test_places_map_back_and_forth(name, data, side):
    plan = data.draw(plans(name))
    batch = plan.masking.emit(plan, side=side)
    origin, places = batch.origin.numpy(), batch.new_places()
    for row in range(len(plan.batch)):
        length, new = len(plan.batch.tokens[row]), places[row]
        known = origin[row][origin[row] >= 0]
        assert len(set(known.tolist())) == len(known)
        assert (known < length).all()
        for column in np.flatnonzero(origin[row] >= 0):
            assert new[origin[row, column]] == column
        for place in np.flatnonzero(new >= 0):
            assert origin[row, new[place]] == place
        assert new.tolist() == slow.new_places(origin[row].tolist(), length)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15)
@given(data=st.data())
def test_a_sample_is_the_same_in_any_batch(name, data):
    plan = data.draw(plans(name))
    masking, batch = plan.masking, plan.batch
    whole = masking.emit(plan)
    for row in range(len(batch)):
        alone = replace(
            batch,
            tokens=batch.tokens.take([row]),
            sample_ids=batch.sample_ids[[row]],
            protected=None if batch.protected is None else batch.protected.take([row]),
            labels=None if batch.labels is None else batch.labels.take([row]),
        )
        one = masking.emit(masking.plan(alone, plan.clock))
        size, wide = one.input_ids.shape[1], one.labels.shape[1]
        assert torch.equal(whole.input_ids[row, :size], one.input_ids[0])
        assert whole.attention_mask[row].sum() == size
        assert torch.equal(whole.labels[row, :wide], one.labels[0])
        assert (whole.labels[row, wide:] == -100).all()
        assert torch.equal(whole.loss_weights[row, :wide], one.loss_weights[0])


@settings(max_examples=40)
@given(data=st.data(), mode=st.sampled_from(["psm", "spm"]))
def test_a_sample_filled_in_is_put_together_again(data, mode):
    """Without its markers, and each token back in its place, a row is its sample."""
    plan = data.draw(plans(mode))
    batch = FillInTheMiddle(97, 98, 99, mode=mode, loss="middle")(plan)
    again = np.zeros(len(plan.batch.tokens.values), np.int64)
    rows, columns = np.nonzero(batch.origin.numpy() >= 0)
    places = plan.batch.tokens.offsets[rows] + batch.origin.numpy()[rows, columns]
    again[places] = batch.input_ids.numpy()[rows, columns]
    assert len(places) == len(again)
    assert (again == plan.batch.tokens.values).all()
