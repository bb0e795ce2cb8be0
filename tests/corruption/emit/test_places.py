"""Which token each slot is of: what a model reads, and what it predicts, brought to the sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright import Keep, Mask, Masking
from maskwright.corruption import Action, Delete, Infill, Sentinel
from maskwright.corruption import reference_emit as slow
from maskwright.corruption.emit import Decoder, FillInTheMiddle, MaskedBatch, PrefixLM, Seq2Seq
from maskwright.corruption.mixture import MixedMasking
from maskwright.errors import BatchError
from tests.corruption.emit.plans import POLICIES, SIDES, T5, Backwards, plan_of, plans, unpadded
from tests.corruption.emit.test_emit_literal import MID, PRE, SUF, emit_of, spans
from tests.corruption.emit.test_emit_reference import expected_inputs

NAMES = sorted(POLICIES)


def maps(batch: MaskedBatch) -> tuple[list, list, list]:
    return (
        batch.input_places.tolist(), batch.label_places.tolist(), batch.sample_mask.tolist(),
    )  # fmt: skip


def test_spans_and_their_sentinels():
    rows = [[10, 11, 12, 13, 1], [14, 15, 1]]
    batch = spans(rows, [((0,), (2, 3)), ((0, 1),)], Seq2Seq("spans"), side="left")
    # read: X 11 Y 1 and _ _ X 1; written: X 10 Y 12 13 Z 1 and X 14 15 Y 1 _ _
    assert maps(batch) == (
        [[-1, 1, -1, 4], [-1, -1, -1, 2]],
        [[-1, 0, -1, 2, 3, -1, 4], [-1, 0, 1, -1, 2, -1, -1]],
        [[3, 1, 3, 3, 1], [3, 3, 1, 0, 0]],
    )
    assert batch.input_places.dtype == batch.label_places.dtype == torch.int32
    assert batch.sample_mask.dtype == torch.int8


def test_a_sentinel_of_one_token_is_not_that_token():
    """It says that something was there, and `origin` says where."""
    batch = spans([[10, 11]], [((1,),)], Seq2Seq("spans", closing=False))
    assert batch.origin.tolist() == [[0, 1]]
    assert maps(batch) == ([[0, -1]], [[-1, 1]], [[1, 3]])


def test_what_was_put_in_taken_out_and_put_elsewhere():
    infill = Masking(act=Infill(), arrange=Backwards(), emit=Seq2Seq())
    batch = emit_of([[2, 10, 11, 12, 1]], [((2,),)], infill, inserts=[(1, 1)])
    # read: 2 12 [] [empty] [empty] 10 1; written: all as it was
    assert maps(batch) == ([[0, 3, -1, -1, -1, 1, 4]], [[0, 1, 2, 3, 4]], [[1, 1, 3, 1, 1]])
    delete = Masking(act=Delete(), emit=Seq2Seq())
    batch = emit_of([[2, 10, 11, 1]], [((1, 2),)], delete)
    assert maps(batch) == ([[0, 3]], [[0, 1, 2, 3]], [[1, 3, 3, 1]])


def test_masks_stand_for_their_tokens():
    mass = Masking(act=Mask(), emit=Seq2Seq("span-only"))
    batch = emit_of([[10, 11, 12, 1], [13, 1]], [((1, 2),), ()], mass)
    assert maps(batch) == (
        [[0, 1, 2, 3], [0, 1, -1, -1]], [[1, 2], [-1, -1]], [[1, 3, 3, 1], [1, 1, 0, 0]],
    )  # fmt: skip


def test_a_decoder_reads_one_place_later_than_it_predicts():
    dropped = Masking(act=Mask(), emit=Decoder("all", start_id=2))
    batch = emit_of([[10, 11, 12, 1], [13, 1]], [((1,),), ((0,),)], dropped, side="left")
    # read: 2 10 [] 12 and _ _ 2 []
    assert maps(batch) == (
        [[-1, 0, 1, 2], [-1, -1, -1, 0]],
        [[0, 1, 2, 3], [-1, -1, 0, 1]],
        [[1, 3, 1, 1], [3, 1, 0, 0]],
    )
    where = Masking(act=Mask(), emit=Decoder("selected"))
    batch = emit_of([[10, 11, 1]], [((1,),)], where)
    assert maps(batch) == ([[0, 1, 2]], [[-1, 1, -1]], [[1, 3, 1]])


@pytest.mark.parametrize(
    ("mode", "places"),
    [("psm", [0, -1, 1, -1, 4, -1, 2, 3, 5]), ("spm", [0, -1, -1, 4, -1, 1, 2, 3, 5])],
)
def test_markers_are_no_tokens(mode, places):
    filled = Masking(act=Keep(), emit=FillInTheMiddle(PRE, SUF, MID, mode=mode))
    batch = emit_of([[2, 10, 11, 12, 13, 1]], [((2, 3),)], filled)
    assert maps(batch) == ([places], [places], [[1, 1, 2, 2, 1, 1]])


def test_a_prefix_is_read_and_not_predicted():
    batch = emit_of([[2, 10, 11, 1]], [((2,),)], Masking(act=Keep(), emit=PrefixLM()))
    assert maps(batch) == ([[0, 1, 2, 3]], [[-1, -1, 2, 3]], [[1, 1, 2, 1]])


def test_the_prefix_of_a_mixture_is_no_token():
    part = Masking(rate=0.0, act=Sentinel(), emit=Seq2Seq("spans", closing=False))
    mixed = MixedMasking(((1, part),), prefix_ids=(50,)).bind(T5)
    batch = mixed.mask(plan_of([[10, 11, 1]], [()], part).batch)
    assert batch.input_ids.tolist() == [[50, 10, 11, 1]]
    assert batch.input_places.tolist() == [[-1, 0, 1, 2]]


def test_labels_of_the_users_that_are_not_to_be_predicted_are_of_no_token():
    batch = emit_of(
        [[10, 11, 12]], [((1,),)], Masking(act=Mask(), emit=Seq2Seq()), labels=[[20, -100, 22]]
    )
    assert batch.label_places.tolist() == [[0, -1, 2]]


def test_an_emit_that_does_not_say_where_its_labels_are_is_named():
    plan = plan_of([[10, 11]], [((0,),)], Masking(act=Mask(), emit=Seq2Seq()))
    ones = torch.ones(1, 2, dtype=torch.int64)
    batch = MaskedBatch(ones, ones, torch.ones(1, 3, dtype=torch.int64), plan)
    with pytest.raises(BatchError, match="label_origin"):
        _ = batch.label_places


def slow_labels(plan, name, row) -> list[int]:
    """The place of each label, -100 or not."""
    length = len(plan.batch.tokens[row])
    if name in ("psm", "spm"):
        return [place for _, place in expected_inputs(plan, name, row)]
    if name.startswith("t5"):
        return slow.span_places(plan, row, closing=name == "t5", eos=name == "t5")
    if name == "mass":
        return [place for unit in slow.units_of(plan, row) for place in unit]
    return list(range(length))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20)
@given(data=st.data(), side=SIDES, multiple=st.sampled_from([1, 8]))
def test_places_are_those_of_the_reference_and_hold_their_tokens(name, data, side, multiple):
    plan = data.draw(plans(name))
    batch = plan.masking.emit(plan, side=side, multiple=multiple)
    tokens = plan.batch.tokens
    found = unpadded(batch.input_places, batch.attention_mask)
    labelled, wanted = batch.label_places.numpy(), (plan.batch.labels or tokens)
    assert (batch.input_places[batch.attention_mask == 0] == -1).all()
    assert batch.label_places.shape == batch.labels.shape
    for row, places in enumerate(found):
        placed = expected_inputs(plan, name, row)
        assert places == slow.input_places(plan, row, placed)
        known = slow_labels(plan, name, row)
        first = batch.labels.shape[1] - len(known)
        first = first if side == "left" and not isinstance(plan.masking.emit, Seq2Seq) else 0
        labels = batch.labels[row, first : first + len(known)].tolist()
        assert labelled[row, first : first + len(known)].tolist() == [
            -1 if label == -100 else place for place, label in zip(known, labels, strict=True)
        ]
        assert (np.delete(labelled[row], slice(first, first + len(known))) == -1).all()

        # what is not replaced is there, and what is predicted is the token
        states = batch.sample_mask[row].tolist()
        assert states[len(tokens[row]) :] == [0] * (len(states) - len(tokens[row]))
        for (token, _), place in zip(placed, places, strict=True):
            assert place < 0 or states[place] == 3 or token == tokens[row][place]
        for label, place in zip(batch.labels[row].tolist(), labelled[row], strict=True):
            if place >= 0:
                # an end is the sample's own, whatever the user's labels say
                own = tokens[row][place] if place == len(tokens[row]) - 1 else wanted[row][place]
                assert label in (wanted[row][place], own)
    selected = plan.selected.to_padded(0).numpy()
    np.testing.assert_array_equal(batch.sample_mask.numpy() >= 2, selected == 1)
    kept = np.zeros(len(tokens.values), np.int64)
    kept[plan.positions[plan.actions == Action.KEEP]] = 1
    np.testing.assert_array_equal(batch.sample_mask.numpy() == 2, tokens.like(kept).to_padded(0))
