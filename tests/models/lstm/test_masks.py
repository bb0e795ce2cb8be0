"""Masks at the inputs, the cross-attention and the outputs, and what may leak past them."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from maskwright.attention import full, monotonic_window, nothing, same, wait_k, window
from maskwright.errors import EmptyRowsWarning, ModelError
from maskwright.hf import attach, detach
from maskwright.models.lstm import reference
from tests.models.lstm import small

IDS = torch.tensor([[5, 6, 7, 8, 9, 2]])
TARGET = torch.tensor([[1, 12, 13, 14, 15]])
FEEDING = pytest.mark.parametrize("feeding", [False, True])


@FEEDING
def test_no_token_sees_a_later_one(feeding):
    model = small.model(input_feeding=feeding, num_hidden_layers=2)
    found = model(input_ids=IDS, decoder_input_ids=TARGET).logits
    for place in range(1, 5):
        other = TARGET.clone()
        other[0, place:] = 20
        changed = model(input_ids=IDS, decoder_input_ids=other).logits
        assert torch.equal(changed[:, :place], found[:, :place])
        assert not torch.equal(changed[:, place], found[:, place])


# -- cross-attention ---------------------------------------------------------------------------


@FEEDING
def test_an_attached_pattern_is_the_same_mask_made_by_hand(feeding):
    model = small.model(input_feeding=feeding, num_attention_heads=2)
    batch = small.padded(small.SOURCES, "left")
    target = torch.tensor(small.TARGETS)
    with attach(model, cross=wait_k(2)):
        found = model(**batch, decoder_input_ids=target)
    for row, source, read in zip(found.logits, small.SOURCES, small.TARGETS, strict=True):
        allowed = [[place < step + 2 for place in range(len(source))] for step in range(4)]
        expected = reference.logits(model, source, read, allowed)
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-4)


@FEEDING
@pytest.mark.parametrize("pattern", [wait_k(1), wait_k(3), window(1), monotonic_window(1)], ids=str)
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_patterns_hold_with_weights_and_without(pattern, feeding, implementation):
    # monotonic_window goes by the length of the whole target, also step by step
    model = small.model(input_feeding=feeding)
    model.set_attn_implementation(implementation)
    rows = small.rows(pattern, 5, 6)
    expected = model(input_ids=IDS, decoder_input_ids=TARGET, cross_attention_mask=rows).logits
    with attach(model, cross=pattern):
        plain = model(input_ids=IDS, decoder_input_ids=TARGET)
        shown = model(input_ids=IDS, decoder_input_ids=TARGET, output_attentions=True)
    torch.testing.assert_close(plain.logits, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(shown.logits, expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(shown.cross_attentions[0][:, 0] > 0, rows)
    assert not torch.allclose(model(input_ids=IDS, decoder_input_ids=TARGET).logits, expected)


def test_positions_count_behind_left_padding_of_the_target():
    model = small.model()
    target = small.padded([[1, 12, 13], [1]], "left")
    with attach(model, cross=wait_k(1)):
        weights = model(
            input_ids=IDS.expand(2, -1),
            decoder_input_ids=target["input_ids"],
            decoder_attention_mask=target["attention_mask"],
            output_attentions=True,
        ).cross_attentions[0][:, 0]
    assert (weights[0] > 0).sum(-1).tolist() == [1, 2, 3]
    assert (weights[1] > 0).sum(-1)[-1] == 1


def test_data_of_the_tokens_reach_the_pattern():
    model = small.model(input_feeding=True)
    turns = {"encoder": {"turn": [0, 0, 0, 1, 1, 1]}, "decoder": {"turn": [0, 1, 1, 0, 0]}}
    with attach(model, cross=same("turn")):
        weights = model(
            input_ids=IDS, decoder_input_ids=TARGET, columns=turns, output_attentions=True
        ).cross_attentions[0][0, 0]
    first = torch.tensor([True, False, False, True, True])
    assert torch.equal((weights > 0)[:, :3].all(-1), first)
    assert torch.equal((weights > 0)[:, 3:].all(-1), ~first)


def test_a_pattern_that_forbids_all_gives_no_context():
    model = small.model()
    with attach(model, cross=nothing), pytest.warns(EmptyRowsWarning):
        found = model(input_ids=IDS, decoder_input_ids=TARGET)
    source, target = IDS[0].tolist(), TARGET[0].tolist()
    expected = reference.logits(model, source, target, [[False] * 6] * 5)
    torch.testing.assert_close(found.logits[0], expected, atol=1e-5, rtol=1e-4)


def test_a_mask_of_the_users_own_and_a_pattern_are_both_obeyed():
    model = small.model()
    rows = torch.rand(1, 5, 6, generator=torch.Generator().manual_seed(0)) < 0.7
    rows[..., 0] = True
    with attach(model, cross=wait_k(2)):
        weights = model(
            input_ids=IDS,
            decoder_input_ids=TARGET,
            cross_attention_mask=rows,
            output_attentions=True,
        ).cross_attentions[0][:, 0]
    assert torch.equal(weights > 0, rows & small.rows(wait_k(2), 5, 6))


@FEEDING
def test_nothing_of_the_source_leaks_past_wait_k_where_it_is_read_in_step(feeding):
    def first_differences(model):
        assert model.config.reads_in_step == (not model.config.bidirectional)
        with attach(model, cross=wait_k(2)):
            before = model(input_ids=IDS, decoder_input_ids=TARGET).logits
            found = []
            for place in range(6):
                other = IDS.clone()
                other[0, place] = 20
                after = model(input_ids=other, decoder_input_ids=TARGET).logits
                same_so_far = (after == before).all(-1)[0].long().cumprod(0)
                found.append(int(same_so_far.sum()))
        return found

    in_step = small.model(bidirectional=False, initial_state="zeros", input_feeding=feeding)
    assert first_differences(in_step) == [0, 0, 1, 2, 3, 4]
    # and the test can fail: a bidirectional encoder carries the end to the beginning
    assert first_differences(small.model(input_feeding=feeding)) == [0] * 6


def test_attaching_elsewhere_is_refused():
    with pytest.raises(ModelError, match="no causal self"):
        attach(small.model(), decoder=full)
    model = small.model()
    attach(model, cross=full)
    detach(model)


# -- outputs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["vocabulary", "sample", "token"])
def test_only_allowed_tokens_have_probability(shape):
    model = small.model()
    generator = torch.Generator().manual_seed(0)
    shapes = {"vocabulary": (24,), "sample": (2, 24), "token": (2, 5, 24)}
    allowed = torch.rand(shapes[shape], generator=generator) < 0.5
    inputs = {"input_ids": IDS.expand(2, -1), "decoder_input_ids": TARGET.expand(2, -1)}
    plain = model(**inputs).logits
    masked = model(**inputs, output_mask=allowed).logits
    wide = allowed.unsqueeze(1) if shape == "sample" else allowed
    wide = wide.expand_as(plain)
    powers = plain.exp() * wide
    torch.testing.assert_close(masked.softmax(-1), powers / powers.sum(-1, keepdim=True))
    assert torch.equal(masked.isneginf(), ~wide)
    labels = wide.long().argmax(-1)
    loss = model(**inputs, output_mask=allowed, labels=labels).loss
    torch.testing.assert_close(loss, cross_entropy(masked.flatten(0, 1), labels.flatten()))


def test_labels_and_lines_that_are_forbidden_are_refused():
    model = small.model()
    allowed = torch.ones(24, dtype=torch.bool)
    allowed[13] = False
    with pytest.raises(ModelError, match=r"the label 13 of sample 0, token 2"):
        model(input_ids=IDS, labels=TARGET, output_mask=allowed)
    ignored = TARGET.masked_fill(TARGET == 13, -100)
    assert torch.isfinite(model(input_ids=IDS, labels=ignored, output_mask=allowed).loss)
    with pytest.raises(ModelError, match="every token"):
        model(input_ids=IDS, labels=TARGET, output_mask=torch.zeros(24, dtype=torch.bool))
    with pytest.raises(ModelError, match="shape"):
        model(input_ids=IDS, labels=TARGET, output_mask=torch.ones(23, dtype=torch.bool))


# -- its own words -----------------------------------------------------------------------------


@FEEDING
def test_it_reads_its_own_words_where_it_is_told_to(feeding):
    model = small.model(input_feeding=feeding)
    sampled = torch.tensor([[False, True, False, True, True]])
    output = model(input_ids=IDS, decoder_input_ids=TARGET, sampled=sampled)
    said = output.logits.argmax(-1)
    read = torch.where(sampled, said.roll(1, 1), TARGET)
    assert torch.equal(output.decoder_input_ids, read)
    # what it said is what it reads: the plain pass over those tokens gives the same
    plain = model(input_ids=IDS, decoder_input_ids=read)
    torch.testing.assert_close(plain.logits, output.logits, atol=1e-6, rtol=1e-5)
    assert plain.decoder_input_ids is None
    output.logits.sum().backward()


def test_its_own_words_all_the_way_are_a_greedy_translation():
    model = small.model()
    sampled = torch.ones(1, 5, dtype=torch.bool)
    sampled[:, 0] = False
    output = model(input_ids=IDS, decoder_input_ids=TARGET, sampled=sampled)
    made = model.generate(input_ids=IDS, max_new_tokens=4, min_new_tokens=4, eos_token_id=None)
    assert torch.equal(output.decoder_input_ids, made)


def test_its_own_words_obey_the_output_mask():
    model = small.model()
    allowed = torch.zeros(24, dtype=torch.bool)
    allowed[[7, 9]] = True
    sampled = torch.tensor([[False, True, True, True, True]])
    output = model(input_ids=IDS, decoder_input_ids=TARGET, sampled=sampled, output_mask=allowed)
    assert set(output.decoder_input_ids[0, 1:].tolist()) <= {7, 9}


def test_its_own_words_begin_behind_the_first_token():
    model = small.model()
    sampled = torch.tensor([[True, False, False, False, False]])
    with pytest.raises(ModelError, match="first token"):
        model(input_ids=IDS, decoder_input_ids=TARGET, sampled=sampled)
    mask = torch.tensor([[0, 1, 1, 1, 1]])
    with pytest.raises(ModelError, match="first token"):
        model(
            input_ids=IDS,
            decoder_input_ids=TARGET,
            decoder_attention_mask=mask,
            sampled=sampled.roll(1, 1),
        )
    with pytest.raises(ModelError, match="Boolean"):
        model(input_ids=IDS, decoder_input_ids=TARGET, sampled=sampled.long())


# -- what does not fit -------------------------------------------------------------------------


def test_inputs_that_do_not_fit_are_refused():
    model = small.model()
    empty = torch.zeros(1, 0, dtype=torch.int64)
    cases = [
        ({"input_ids": empty, "decoder_input_ids": TARGET}, r"source has the shape \(1, 0\)"),
        ({"input_ids": IDS, "decoder_input_ids": empty}, r"target has the shape \(1, 0\)"),
        ({"input_ids": IDS}, "token ids or embeddings"),
        ({"input_ids": IDS.expand(2, -1), "decoder_input_ids": TARGET}, "2 sources and 1 targets"),
        (
            {"input_ids": IDS, "attention_mask": IDS[:, 1:], "decoder_input_ids": TARGET},
            "attention_mask has the shape",
        ),
        (
            {"input_ids": IDS, "decoder_input_ids": TARGET, "past_key_values": ()},
            "is a tuple",
        ),
        (
            {
                "input_ids": IDS,
                "decoder_input_ids": TARGET,
                "cross_attention_mask": torch.ones(1, 5, 6),
            },
            "Boolean, True = may attend",
        ),
        (
            {
                "input_ids": IDS,
                "decoder_input_ids": TARGET,
                "cross_attention_mask": torch.ones(1, 4, 6, dtype=torch.bool),
            },
            "needs a row for every token",
        ),
    ]
    for inputs, message in cases:
        with pytest.raises(ModelError, match=message):
            model(**inputs)
