"""A conditional masked language model without padding, on both sides: the plain one's loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from maskwright.hf import accelerate_model
from maskwright.hf.conditional.both_sides import see_both_sides
from maskwright.hf.conditional.model import ConditionalMaskedLM
from maskwright.hf.conditional.target_form import TargetForm
from tests.hf.compute.test_acceleration import SIDES, same_loss_and_gradients
from tests.hf.pairs import models

MASK, PAD, END = 4, 0, 3
FORM = TargetForm(MASK, PAD, (), (END,), (MASK, PAD, END), models.VOCABULARY)
SOURCES, TARGETS = (9, 3, 1, 6), (2, 7, 5, 1)
EVERY = pytest.mark.parametrize("kind", models.TEXT)


def model(kind: str) -> ConditionalMaskedLM:
    made = ConditionalMaskedLM(models.model(kind), FORM, reach=6).train()
    for part in made.modules():
        for name in ("dropout", "p", "attention_dropout", "activation_dropout"):
            if isinstance(getattr(part, name, None), float):
                setattr(part, name, 0.0)
    return made


def batch(side: str = "right") -> dict[str, torch.Tensor]:
    """Every second word of a target is masked, and predicted."""
    generator = torch.Generator().manual_seed(1)

    def rows(lengths: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        slots, sizes = torch.arange(max(lengths)), torch.tensor(lengths).unsqueeze(1)
        real = slots < sizes if side == "right" else slots >= max(lengths) - sizes
        ids = torch.randint(5, models.VOCABULARY, real.shape, generator=generator)
        return torch.where(real, ids, PAD), real

    ids, mask = rows(SOURCES)
    words, real = rows(TARGETS)
    chosen = real & (torch.arange(max(TARGETS)) % 2 == 0)
    return {
        "input_ids": ids,
        "attention_mask": mask.long(),
        "decoder_input_ids": torch.where(chosen, MASK, words),
        "decoder_attention_mask": real.long(),
        "labels": torch.where(chosen, words, -100),
    }


def inputs(full: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: one for name, one in full.items() if name != "labels"}


@SIDES
@EVERY
@pytest.mark.filterwarnings("ignore:Version v4.12.0")  # an EncoderDecoderModel, of its own loss
def test_loss_and_gradients_are_those_of_the_plain_model(kind, side):
    same_loss_and_gradients(model(kind), batch(side), True, True)


@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_layers_that_are_checkpointed(kind):
    made = model(kind)
    made.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    same_loss_and_gradients(made, batch(), True, True)


@EVERY
def test_every_word_sees_both_sides_of_its_own_target_alone(kind):
    """Logits at words are the plain model's, and no sample feels another one."""
    made, given = model(kind).eval(), inputs(batch())
    real = given["decoder_attention_mask"].bool()
    other = {**given, "decoder_input_ids": given["decoder_input_ids"].clone()}
    other["decoder_input_ids"][1, 6] = 9  # the last word of the second target
    with torch.no_grad():
        wanted = made(**given).logits
        with accelerate_model(made, unpad=True):
            found, changed = made(**given).logits, made(**other).logits
    torch.testing.assert_close(found[real], wanted[real], rtol=1e-5, atol=1e-5)
    moved = (changed - found).abs().amax(-1) > 1e-6
    assert moved[1].all()
    assert not moved[[0, 2, 3]].any()


def widths(made: Any) -> list[int]:
    """How many tokens go through a layer of the encoder, one of the decoder, and the head."""
    seen: list[int] = []
    inner = made.model.model
    for part in (inner.encoder.layers[0].fc1, inner.decoder.layers[0].fc1, made.model.lm_head):
        part.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[:-1].numel()))
    return seen


def test_padding_goes_through_neither_side_and_the_head_runs_nowhere():
    made = model("bart")
    seen = widths(made)
    with accelerate_model(made):
        assert made(**batch()).logits is None
    # the head is asked for no logits: those of predicted words come a few rows at a time
    assert seen == [sum(SOURCES), sum(TARGETS), 0]


def test_a_mask_that_says_who_asks_goes_through_as_ever():
    made, given = model("bart").eval(), inputs(batch())
    real = given["decoder_attention_mask"]
    own = see_both_sides(real, torch.float32).contiguous()
    own[0, 0, 0, 1] = torch.finfo(torch.float32).min  # the first word does not see the second
    given["decoder_attention_mask"] = own
    seen = widths(made)
    with torch.no_grad():
        wanted = made.model(**given).logits
        seen.clear()
        with accelerate_model(made):
            found = made.model(**given).logits
    assert seen == [sum(SOURCES), real.numel(), real.numel()]
    torch.testing.assert_close(found[real.bool()], wanted[real.bool()], rtol=1e-5, atol=1e-5)
