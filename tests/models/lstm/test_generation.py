"""Generation: with a state as without, in beams, with patterns, and in pieces."""

from __future__ import annotations

import pytest
import torch

from maskwright.attention import wait_k
from maskwright.errors import ModelError
from maskwright.hf import attach
from maskwright.models import LstmState
from tests.models.lstm import small

FEEDING = pytest.mark.parametrize("feeding", [False, True])
LONG = {"max_new_tokens": 7, "min_new_tokens": 3}


@FEEDING
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("side", ["left", "right"])
def test_with_its_state_it_writes_what_it_would_without(feeding, beams, side):
    model = small.model(input_feeding=feeding, num_hidden_layers=2)
    batch = small.padded(small.SOURCES, side)
    settings = LONG | {"num_beams": beams, "output_scores": True, "return_dict_in_generate": True}
    quick = model.generate(**batch, **settings)
    slow = model.generate(**batch, **settings, use_cache=False)
    assert torch.equal(quick.sequences, slow.sequences)
    assert isinstance(quick.past_key_values, LstmState)
    for one, other in zip(quick.scores, slow.scores, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@FEEDING
def test_each_sample_is_written_as_it_would_be_alone(feeding):
    model = small.model(input_feeding=feeding)
    batch = small.padded(small.SOURCES)
    together = model.generate(**batch, **LONG, num_beams=2)
    for row, source in zip(together, small.SOURCES, strict=True):
        alone = model.generate(input_ids=torch.tensor([source]), **LONG, num_beams=2)[0]
        assert torch.equal(row[: len(alone)], alone)
        # transformers fills up beams with the end token where padding has the id 0
        assert set(row[len(alone) :].tolist()) <= {small.PAD, small.EOS}


def test_beams_find_what_is_likeliest():
    model = small.model(eos_token_id=None)
    ids = torch.tensor([small.SOURCES[0]])
    # three tokens of a vocabulary of six: every sequence can be tried
    allowed = torch.zeros(1, 24, dtype=torch.bool)
    allowed[:, 3:9] = True
    made = model.generate(
        input_ids=ids, output_mask=allowed, max_new_tokens=3, num_beams=36, eos_token_id=None
    )[0]
    every = torch.cartesian_prod(*[torch.arange(3, 9)] * 3)
    read = torch.cat((torch.full((216, 1), 1), every[:, :2]), 1)
    logits = model(
        input_ids=ids.expand(216, -1), decoder_input_ids=read, output_mask=allowed[0]
    ).logits
    scores = logits.log_softmax(-1).gather(-1, every.unsqueeze(-1)).sum((1, 2))
    assert torch.equal(made[1:], every[scores.argmax()])


@FEEDING
@pytest.mark.parametrize("beams", [1, 2])
def test_patterns_hold_while_generating(feeding, beams):
    model = small.model(input_feeding=feeding)
    batch = small.padded(small.SOURCES, "left")
    with attach(model, cross=wait_k(1)):
        quick = model.generate(**batch, **LONG, num_beams=beams)
        slow = model.generate(**batch, **LONG, num_beams=beams, use_cache=False)
        shown = model.generate(
            input_ids=batch["input_ids"][:1],
            **LONG,
            output_attentions=True,
            return_dict_in_generate=True,
        )
    assert torch.equal(quick, slow)
    counts = [int((step[0][0, 0, -1] > 0).sum()) for step in shown.cross_attentions]
    assert counts == [min(step + 1, 5) for step in range(len(counts))]
    plain = model.generate(**batch, **LONG, num_beams=beams)
    assert quick.shape != plain.shape or not torch.equal(quick, plain)


def test_a_mask_by_hand_holds_while_generating():
    model = small.model()
    ids = torch.tensor([small.SOURCES[0]])
    rows = small.rows(wait_k(2), 10, 5)
    made = model.generate(input_ids=ids, cross_attention_mask=rows, **LONG)
    with attach(model, cross=wait_k(2)):
        assert torch.equal(model.generate(input_ids=ids, **LONG), made)
    with pytest.raises(ModelError, match="a row for every token"):
        model.generate(input_ids=ids, cross_attention_mask=rows[:, :2], **LONG)


@FEEDING
def test_a_target_may_be_read_in_pieces(feeding):
    model = small.model(input_feeding=feeding, num_hidden_layers=2)
    batch = small.padded(small.SOURCES)
    target = small.padded([[1, 12, 13, 14, 15], [1, 16], [1, 17, 18]], "left")
    ids, mask = target["input_ids"], target["attention_mask"]
    whole = model(**batch, decoder_input_ids=ids, decoder_attention_mask=mask)
    encoded = model.get_encoder()(**batch)
    state, found = None, []
    for start, stop in ((0, 2), (2, 3), (3, 5)):
        before = None if state is None else state.hidden.clone()
        output = model(
            encoder_outputs=encoded,
            attention_mask=batch["attention_mask"],
            decoder_input_ids=ids[:, start:stop],
            decoder_attention_mask=mask[:, :stop],
            past_key_values=state,
        )
        if state is not None:
            assert torch.equal(state.hidden, before)
        state = output.past_key_values
        assert state.get_seq_length() == stop
        found.append(output.logits)
    there = mask == 1
    torch.testing.assert_close(
        torch.cat(found, 1)[there], whole.logits[there], atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(state.hidden, whole.past_key_values.hidden, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(state.fed, whole.past_key_values.fed, atol=1e-5, rtol=1e-4)


def test_states_of_another_encoder_are_enough_from_zeros():
    from transformers.modeling_outputs import BaseModelOutput

    ids, target = torch.tensor([small.SOURCES[0]]), torch.tensor(small.TARGETS[:1])
    for initial in ("zeros", "encoder"):
        model = small.model(initial_state=initial)
        states = model.get_encoder()(input_ids=ids).last_hidden_state
        given = {"encoder_outputs": BaseModelOutput(states), "decoder_input_ids": target}
        if initial == "encoder":
            with pytest.raises(ModelError, match="final_hidden"):
                model(**given)
        else:
            expected = model(input_ids=ids, decoder_input_ids=target).logits
            assert torch.equal(model(**given).logits, expected)
            assert torch.equal(model(**given, return_dict=False)[0], expected)


def test_a_state_has_no_way_back():
    model = small.model()
    ids = torch.tensor(small.SOURCES[:1])
    state = model(input_ids=ids, decoder_input_ids=ids).past_key_values
    with pytest.raises(ModelError, match="cropped"):
        state.crop(1)
    assert repr(state) == "LstmState(5 tokens read, batch 1)"
