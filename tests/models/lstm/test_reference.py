"""The model against the slow one: packing, input feeding, layers, heads, directions, padding."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.models.lstm import reference
from tests.models.lstm import small

KINDS = [
    {},
    {"input_feeding": True},
    {"num_hidden_layers": 2, "num_attention_heads": 4},
    {"bidirectional": False, "initial_state": "zeros"},
    {"num_hidden_layers": 2, "input_feeding": True, "num_attention_heads": 2},
    {"embedding_size": 10, "tie_word_embeddings": False},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_batch_is_each_sample_on_its_own(kind, side):
    model = small.model(**kind)
    batch = small.padded(small.SOURCES, side, extra=2)
    found = model(**batch, decoder_input_ids=torch.tensor(small.TARGETS)).logits
    for row, source, target in zip(found, small.SOURCES, small.TARGETS, strict=True):
        expected = reference.logits(model, source, target)
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-4)


@settings(max_examples=8)
@given(st.data())
def test_any_padding_masks_and_own_words(data):
    kind = data.draw(st.sampled_from(KINDS))
    model = small.model(**kind)
    tokens = st.integers(3, small.VOCABULARY - 1)
    sources = data.draw(st.lists(st.lists(tokens, max_size=4), min_size=1, max_size=3))
    sources[0] = sources[0] or [5]
    targets = [data.draw(st.lists(tokens, min_size=1, max_size=4)) for _ in sources]
    source = _with_holes(data, sources)
    target = _with_holes(data, targets)
    batch, length = target["input_ids"].shape
    allowed = torch.rand(batch, length, source["input_ids"].shape[1]) < 0.6
    sampled = (torch.rand(batch, length) < 0.5) & (target["attention_mask"].cumsum(1) > 1)
    sampled &= target["attention_mask"] == 1
    found = model(
        **source,
        decoder_input_ids=target["input_ids"],
        decoder_attention_mask=target["attention_mask"],
        cross_attention_mask=allowed,
        sampled=sampled,
    ).logits
    for row in range(batch):
        there = target["attention_mask"][row] == 1
        seen = allowed[row][there][:, source["attention_mask"][row] == 1]
        expected = reference.logits(
            model, sources[row], targets[row], seen.tolist(), sampled[row][there].tolist()
        )
        torch.testing.assert_close(found[row][there], expected, atol=1e-5, rtol=1e-4)


def _with_holes(data, rows):
    """Rows with padding anywhere."""
    length = max(map(len, rows)) + data.draw(st.integers(0, 2))
    ids = torch.full((len(rows), length), 23)
    mask = torch.zeros(len(rows), length, dtype=torch.int64)
    for number, row in enumerate(rows):
        places = sorted(data.draw(st.permutations(range(length)))[: len(row)])
        ids[number, places] = torch.tensor(row, dtype=torch.int64)
        mask[number, places] = 1
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("feeding", [False, True])
def test_weights_are_a_softmax_over_what_may_be_seen(implementation, feeding):
    model = small.model(num_attention_heads=2, input_feeding=feeding)
    model.set_attn_implementation(implementation)
    batch = small.padded(small.SOURCES)
    allowed = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0)) < 0.5
    allowed[1, 2] = False
    (weights,) = model(
        **batch,
        decoder_input_ids=torch.tensor(small.TARGETS),
        cross_attention_mask=allowed,
        output_attentions=True,
    ).cross_attentions
    seen = (allowed & (batch["attention_mask"] == 1).unsqueeze(1)).unsqueeze(1)
    assert weights.shape == (3, 2, 4, 5)
    assert torch.equal(weights > 0, seen.expand_as(weights))
    total = seen.any(-1).float().expand(3, 2, 4)
    torch.testing.assert_close(weights.sum(-1), total)


def test_both_implementations_agree():
    batch = small.padded(small.SOURCES, "left")
    found = []
    for implementation in ("sdpa", "eager"):
        model = small.model(num_attention_heads=2)
        model.set_attn_implementation(implementation)
        found.append(model(**batch, decoder_input_ids=torch.tensor(small.TARGETS)).logits)
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("feeding", [False, True])
def test_gradients_are_those_of_differences(feeding):
    model = small.model(input_feeding=feeding, hidden_size=4).double()
    batch = small.padded(small.SOURCES)
    target = torch.tensor(small.TARGETS)

    def loss():
        return model(**batch, decoder_input_ids=target, labels=target).loss

    loss().backward()
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        at = int(torch.randint(weight.numel(), (), generator=generator))
        flat, step = weight.data.view(-1), 1e-5
        was = float(flat[at])
        ends = []
        for shift in (step, -step):
            flat[at] = was + shift
            ends.append(float(loss().detach()))
        flat[at] = was
        slope = (ends[0] - ends[1]) / (2 * step)
        assert weight.grad is not None, name
        assert abs(float(weight.grad.view(-1)[at]) - slope) < 1e-7 + 1e-5 * abs(slope), name


def test_a_source_of_padding_alone_is_no_source():
    for implementation, feeding in itertools.product(("sdpa", "eager"), (False, True)):
        model = small.model(input_feeding=feeding)
        model.set_attn_implementation(implementation)
        batch = small.padded(small.SOURCES)
        batch["attention_mask"][1] = 0
        output = model(**batch, labels=torch.tensor(small.TARGETS), output_attentions=True)
        assert not output.cross_attentions[0][1].any()
        assert not output.encoder_last_hidden_state[1].any()
        output.loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())
        expected = reference.logits(model, [], [1, *small.TARGETS[1][:-1]])
        torch.testing.assert_close(output.logits[1], expected, atol=1e-5, rtol=1e-4)
