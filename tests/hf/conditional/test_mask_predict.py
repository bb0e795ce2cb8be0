"""Mask-predict and its blocks against the slow reference, and what must not change them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.attention import wait_k
from maskwright.errors import BatchError, ConfigError, ModelError
from maskwright.hf.attachment.attach import attach
from maskwright.hf.conditional.best_tokens import BestTokens
from maskwright.hf.conditional.mask_predict import Filled, block_decode, mask_predict
from maskwright.hf.conditional.model import ConditionalMaskedLM, conditional
from maskwright.hf.conditional.reference import write_one
from tests.hf.conditional.tiny_seq2seq import (
    END,
    FORM,
    FRAMED,
    KINDS,
    MASK,
    PAD,
    VOCABULARY,
    seq2seq,
    sources,
    tokenizer,
)
from tests.hf.pairs import models as pair_models

MODELS = {kind: ConditionalMaskedLM(seq2seq(kind), FRAMED, reach=6).eval() for kind in KINDS}
PLAIN = ConditionalMaskedLM(seq2seq(), FORM, reach=6).eval()


def same_as_reference(model, written: Filled, ids, mask, lengths, **how) -> None:
    for row, length in enumerate(lengths):
        source = ids[row, : int(mask[row].sum())].tolist()
        tokens, score = write_one(model, source, length, **how)
        found = written.tokens[row].tolist()
        assert found == tokens + [PAD] * (len(found) - len(tokens))
        assert written.scores[row].item() == pytest.approx(score, abs=1e-5)
    assert written.lengths.tolist() == list(lengths)


@pytest.mark.parametrize("kind", KINDS)
def test_as_the_reference(kind):
    ids, mask = sources([5, 9, 7])
    written = mask_predict(MODELS[kind], ids, mask, lengths=[6, 3, 11], passes=3)
    same_as_reference(MODELS[kind], written, ids, mask, [6, 3, 11], passes=3)
    assert written.passes == 3


@settings(max_examples=8)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    passes=st.integers(1, 5),
    block=st.one_of(st.none(), st.integers(1, 5)),
    easy_first=st.booleans(),
)
def test_as_the_reference_in_blocks_and_easy_first(lengths, passes, block, easy_first):
    ids, mask = sources([4 + one for one in lengths])
    remask = "easy-first" if easy_first else "least-certain"
    how = {"lengths": lengths, "passes": passes, "remask": remask}
    if block is None:
        written = mask_predict(PLAIN, ids, mask, **how)
    else:
        written = block_decode(PLAIN, ids, mask, block=block, **how)
    same_as_reference(
        PLAIN, written, ids, mask, lengths, passes=passes, block=block, easy_first=easy_first
    )


def test_one_pass_is_the_argmax_of_everything():
    ids, mask = sources([6, 4])
    written = mask_predict(PLAIN, ids, mask, lengths=[5, 5], passes=1)
    target = torch.tensor([[MASK] * 5 + [END]] * 2)
    with torch.no_grad():
        logits = PLAIN(input_ids=ids, attention_mask=mask, decoder_input_ids=target).logits
    logits[..., list(FORM.never)] = float("-inf")
    scores, expected = logits[:, :5].log_softmax(-1).max(-1)
    assert torch.equal(written.tokens[:, :5], expected)
    torch.testing.assert_close(written.scores, scores.mean(1))


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind):
    ids, mask = sources([5, 8])
    wide, wide_mask = (torch.nn.functional.pad(one, (0, 4)) for one in (ids, mask))
    for row in range(2):
        alone = ids[row : row + 1, : int(mask[row].sum())]
        one = mask_predict(MODELS[kind], alone, lengths=[7])
        for source, attended in ((ids, mask), (wide, wide_mask)):
            lengths = [12, 12]
            lengths[row] = 7
            other = mask_predict(MODELS[kind], source, attended, lengths=lengths)
            assert other.tokens[row, :9].tolist() == one.tokens[0].tolist()
            torch.testing.assert_close(other.scores[row], one.scores[0], atol=1e-5, rtol=0)


def test_a_block_as_long_as_the_target_is_mask_predict():
    ids, mask = sources([5, 8])
    whole = mask_predict(PLAIN, ids, mask, lengths=[6, 4], passes=3)
    blocks = block_decode(PLAIN, ids, mask, lengths=[6, 4], passes=3, block=6)
    assert torch.equal(whole.tokens, blocks.tokens)
    assert torch.equal(whole.scores, blocks.scores)
    assert blocks.passes == 3
    assert block_decode(PLAIN, ids, mask, lengths=[6, 4], passes=3, block=3).passes == 6


def test_the_likeliest_of_several_lengths_is_kept():
    ids, mask = sources([5, 8])
    tried = [[3, 6, 3, 9], [7, 2, 5, 5]]
    written = mask_predict(PLAIN, ids, mask, lengths=tried, passes=2)
    for row in range(2):
        source = ids[row, : int(mask[row].sum())].tolist()
        each = {length: write_one(PLAIN, source, length, passes=2) for length in tried[row]}
        best = max(each, key=lambda length: each[length][1])
        assert written.lengths[row] == best
        assert written.tokens[row, : best + 1].tolist() == each[best][0]


def test_lengths_of_the_head_are_tried():
    ids, mask = sources([5, 8])
    head = PLAIN.lengths
    assert head is not None
    with torch.no_grad():
        states = PLAIN.encode(ids, mask)
        tried, _ = head.likeliest(head(states, mask), mask.sum(1), 3, 39)
        found = mask_predict(PLAIN, ids, mask, length_beam=3)
    expected = mask_predict(PLAIN, ids, mask, lengths=tried)
    assert torch.equal(found.tokens, expected.tokens)
    assert torch.equal(found.scores, expected.scores)
    shortest = mask_predict(PLAIN, ids, mask, length_beam=99, max_length=2)
    assert int(shortest.lengths.max()) <= 2


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_are_never_predicted(kind):
    model = ConditionalMaskedLM(seq2seq(kind), FRAMED, reach=6).eval()
    banned = [*FRAMED.never, VOCABULARY - 2, VOCABULARY - 1]
    head = model.get_output_embeddings()
    with torch.no_grad():  # whatever the hidden state, one of them would win
        head.weight[banned] *= 50.0
    ids, mask = sources([5, 9])
    words = mask_predict(model, ids, mask, lengths=[6, 8]).tokens
    inside = torch.cat([words[0, 1:7], words[1, 1:9]])
    assert not set(inside.tolist()) & set(banned)
    assert words[0].tolist()[7:] == [END, PAD, PAD]


def test_a_head_that_scales_its_logits_runs_as_it_is():
    model = ConditionalMaskedLM(seq2seq(), FORM, reach=6).eval()
    inner = model.model
    plain = inner.forward
    ids, mask = sources([5, 9])

    def scaled(**inputs):
        output = plain(**inputs)
        output["logits"] = output["logits"] * 0.5
        return output

    inner.forward = scaled
    written = mask_predict(model, ids, mask, lengths=[6, 8])
    same_as_reference(model, written, ids, mask, [6, 8], passes=4)


@pytest.mark.parametrize("kind", KINDS)
def test_all_heads_take_the_short_way(kind):
    best = BestTokens(MODELS[kind], FRAMED.never, FRAMED.size)
    inputs = {"input_ids": sources([4])[0], "decoder_input_ids": torch.tensor([[2, MASK, END]])}
    with torch.no_grad():
        best(torch.tensor([1]), (1, 3), inputs)
    assert best._head is not None


def test_repeats():
    ids, mask = sources([5, 9])
    kept = mask_predict(PLAIN, ids, mask, lengths=[8, 8], passes=1)
    dropped = mask_predict(PLAIN, ids, mask, lengths=[8, 8], passes=1, repeats="drop")
    for row in range(2):
        words = kept.tokens[row, :8].tolist()
        expected = [one for i, one in enumerate(words) if i == 0 or one != words[i - 1]]
        assert len(expected) < 8  # or the test says nothing
        assert int(dropped.lengths[row]) == len(expected)
        assert dropped.tokens[row, : len(expected) + 1].tolist() == [*expected, END]
    again = mask_predict(PLAIN, ids, mask, lengths=[8, 8], repeats="remask")
    assert again.tokens.shape == (2, 9)


def test_nothing_is_left_behind_and_nothing_is_drawn():
    ids, mask = sources([5, 9])
    model = ConditionalMaskedLM(seq2seq(), FORM, reach=6).train()
    for module in model.modules():
        if hasattr(module, "dropout"):
            setattr(module, "dropout", 0.5)  # noqa: B010
    before = torch.get_rng_state()
    first, second = (mask_predict(model, ids, mask) for _ in range(2))
    assert torch.equal(first.tokens, second.tokens)
    assert torch.equal(first.scores, second.scores)
    assert torch.equal(before, torch.get_rng_state())
    assert model.training
    assert model.model.training
    assert not any("forward" in module.__dict__ for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())


def test_sources_are_projected_once():
    model = ConditionalMaskedLM(seq2seq(), FORM, reach=6).eval()
    ids, mask = sources([5, 9])
    linear = model.model.get_decoder().layers[0].encoder_attn.k_proj
    calls = []
    plain = torch.nn.Linear.forward

    def counted(self, states):
        if self is linear:
            calls.append(tuple(states.shape))
        return plain(self, states)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Linear, "forward", counted)
        mask_predict(model, ids, mask, lengths=[[1, 7, 8], [9, 2, 5]], passes=4)
    assert calls == [(2, 9, 16)]


def test_patterns_on_the_cross_attention_hold():
    ids, mask = sources([9, 9])
    model = ConditionalMaskedLM(seq2seq(), FORM, reach=6).eval()
    target = torch.tensor([[MASK] * 5 + [END]] * 2)

    def first_logits() -> list[torch.Tensor]:
        states = model.encode(ids, mask)
        changed = states.clone()
        changed[:, 6:] += 1.0  # what no token of six may see when each waits for its own source
        both = (states, changed)
        inputs = [model.inputs(one, mask) | {"decoder_input_ids": target} for one in both]
        return [model(**one).logits for one in inputs]

    with torch.no_grad():
        free = first_logits()
        with attach(model.model, cross=wait_k(1)):
            narrow = first_logits()
            written = mask_predict(model, ids, mask, lengths=[5, 7], passes=2)
            same_as_reference(model, written, ids, mask, [5, 7], passes=2)
    assert not torch.allclose(free[0], free[1])
    torch.testing.assert_close(*narrow)


def test_half_precision_runs():
    model = ConditionalMaskedLM(seq2seq().to(torch.bfloat16), FORM, reach=6).eval()
    ids, mask = sources([5, 9])
    written = mask_predict(model, ids, mask, lengths=[6, 8])
    assert written.scores.dtype == torch.float32
    assert bool(written.scores.isfinite().all())


IDS, ATTENDED = sources([5, 9])


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"passes": 0}, ConfigError, "passes=0"),
        ({"passes": 2.0}, ConfigError, "passes=2.0"),
        ({"length_beam": 0}, ConfigError, "length_beam=0"),
        ({"max_length": 0}, ConfigError, "max_length=0"),
        ({"remask": "worst"}, ConfigError, "'least-certain', 'easy-first'"),
        ({"repeats": None}, ConfigError, "'keep', 'remask', 'drop'"),
        ({"lengths": [3, 0]}, BatchError, "Sample 1: lengths= gives 0 words"),
        ({"lengths": [40, 3]}, BatchError, "from 1 to 39"),
        ({"lengths": [3]}, BatchError, "for a batch of 2"),
        ({"lengths": [3.0, 4.0]}, BatchError, "whole numbers"),
        ({"attention_mask": ATTENDED * torch.tensor([[1], [0]])}, BatchError, "Sample 1: its sou"),
        ({"attention_mask": ATTENDED[:, 1:]}, BatchError, "they are alike"),
        ({"input_ids": IDS[:, :0]}, BatchError, "at least one token"),
        ({"input_ids": IDS[:, :1].expand(2, 41)}, BatchError, "positions for 40"),
        ({"input_ids": IDS[:, :8].repeat(1, 5), "max_length": 3}, BatchError, "has 34 or more"),
        ({"model": seq2seq()}, ModelError, "got MarianMTModel"),
        ({"model": ConditionalMaskedLM(seq2seq(), FORM, reach=0)}, ModelError, "lengths="),
    ],
)
def test_what_cannot_be_done_is_said(changes, error, said):
    asked = {"model": PLAIN, "input_ids": IDS, "attention_mask": ATTENDED} | changes
    if "input_ids" in changes:
        asked["attention_mask"] = None
    with pytest.raises(error, match=said):
        mask_predict(**asked)


def test_sounds_have_no_tokens_to_tell_a_length_from():
    whisper = pair_models.model("whisper")
    said = r"WhisperFor\w+ reads input_features, not token ids: .* write with model\.generate\(\)"
    for make in (
        lambda: mask_predict(whisper, IDS),
        lambda: block_decode(whisper, IDS, block=2),
        lambda: conditional(whisper, tokenizer()),
        lambda: ConditionalMaskedLM(whisper, FORM),
    ):
        with pytest.raises(ModelError, match=said):
            make()


@pytest.mark.parametrize("block", [0, True, 2.5])
def test_a_block_is_a_whole_number(block):
    with pytest.raises(ConfigError, match="block="):
        block_decode(PLAIN, IDS, ATTENDED, block=block)
