"""What was made for Transformers, on it: simultaneous decoding, learned gates, shown attention."""

from __future__ import annotations

import pytest
import torch

from maskwright.attention import Axis, wait_k
from maskwright.errors import ModelError
from maskwright.hf import attach
from maskwright.hf.interaction.interaction_mask import InteractionMask
from maskwright.hf.simultaneous.generate import simultaneous_generate
from tests.models.lstm import small

IDS = torch.tensor([[5, 6, 7, 8, 9, 2]])
FEEDING = pytest.mark.parametrize("feeding", [False, True])


@FEEDING
def test_it_writes_while_it_reads(feeding):
    model = small.model(bidirectional=False, initial_state="zeros", input_feeding=feeding)
    batch = small.padded(small.SOURCES)
    written = simultaneous_generate(model, **batch, k=2, max_new_tokens=6)
    # an encoder that reads in step gives what the pattern gives on the whole source
    with attach(model, cross=wait_k(2)):
        made = model.generate(**batch, max_new_tokens=6)[:, 1:]
    for row, tokens, delays, length in zip(
        made, written.tokens, written.delays, (5, 3, 2), strict=True
    ):
        assert row[: len(tokens)].tolist() == tokens
        assert delays == [min(2 + step, length) for step in range(len(tokens))]


@FEEDING
def test_what_is_not_yet_read_cannot_matter_to_an_encoder_that_reads_both_ways(feeding):
    model = small.model(input_feeding=feeding)
    other = IDS.clone()
    other[0, 4:] = 20
    first, second = (
        simultaneous_generate(model, ids, k=2, max_new_tokens=3, end_early=False).tokens[0]
        for ids in (IDS, other)
    )
    assert first[:2] == second[:2]


@pytest.mark.parametrize(("per", "feeding"), [("head", False), ("head", True), ("pair", False)])
def test_gates_are_learned(per, feeding):
    model = small.model(num_attention_heads=4, input_feeding=feeding)
    mask = InteractionMask(model, per=per, budget=0.5)
    mask.at(0, 10)
    model.train()
    model(input_ids=IDS, labels=IDS).loss.backward()
    gradients = [parameter.grad for parameter in mask.gates.parameters()]
    assert gradients
    assert any(one is not None and bool(one.any()) for one in gradients)
    mask.detach()


def test_gates_of_pairs_are_refused_step_by_step():
    model = small.model(input_feeding=True)
    mask = InteractionMask(model, per="pair")
    mask.at(0, 10)
    model.train()
    with pytest.raises(ModelError, match='per="head"'):
        model(input_ids=IDS, labels=IDS)
    assert torch.isfinite(model.eval()(input_ids=IDS, labels=IDS).loss)


def test_closed_heads_are_an_attached_pattern():
    model = small.model(num_attention_heads=4).eval()
    mask = InteractionMask(model, budget=0.5)
    gates = next(iter(mask.gates))
    gates.log_alpha.data = torch.tensor([9.0, -9.0, 9.0, -9.0])
    expected = model(input_ids=IDS, decoder_input_ids=IDS).logits
    patterns = mask.export()
    allowed = patterns["cross"][0].dense(Axis(6), Axis(6))
    assert allowed.any(-1).any(-1)[0].tolist() == [True, False, True, False]
    with attach(model, **patterns):
        found = model(input_ids=IDS, decoder_input_ids=IDS).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
