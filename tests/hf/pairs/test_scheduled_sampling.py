"""Scheduled sampling: which tokens are replaced, by what, and the gradient of the second pass."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from maskwright import Clock, Ragged, TokenBatch
from maskwright.corruption import Fixed, Spans, decoder_masking
from maskwright.errors import ConfigError, PolicyError
from maskwright.hf import MaskingCollator, MaskingTrainer, ScheduledSampling
from maskwright.hf.pairs.scheduled_sampling import SAMPLED
from maskwright.schedule import Linear
from tests.hf import tiny
from tests.hf.pairs import models
from tests.hf.pairs.test_training import (
    EXACT,
    HALF,
    KINDS,
    PAIRS,
    WORDS,
    assert_alike,
    first_batch,
    loss_and_gradients,
    trainer_of,
)

SAMPLING = ScheduledSampling(0.5)
every_kind = pytest.mark.parametrize("kind", KINDS)
READ = ("input_ids", "input_features", "attention_mask", "decoder_input_ids",
        "decoder_attention_mask")  # fmt: skip


def read_of(batch: Any) -> dict[str, torch.Tensor]:
    return {name: batch[name] for name in READ if name in batch}


def slowly_replaced(model: Any, batch: Any) -> torch.Tensor:
    """What the decoder reads in the second pass, one token at a time."""
    ids = batch["decoder_input_ids"].clone()
    with torch.no_grad():
        guesses = model(**read_of(batch)).logits.argmax(-1)
    for row, column in batch[SAMPLED].nonzero().tolist():
        ids[row, column] = guesses[row, column - 1]
    return ids


@every_kind
@pytest.mark.parametrize("aware", [False, EXACT])
def test_the_second_pass_has_the_gradient_of_its_inputs(kind, aware, tmp_path):
    """As if a plain model were given the replaced tokens, encoder included."""
    sampling = trainer_of(kind, tmp_path, scheduled_sampling=SAMPLING, mask_aware=aware)
    batch = first_batch(sampling)
    assert batch[SAMPLED].any()
    plain = trainer_of(kind, tmp_path)
    replaced = dict(batch)
    replaced["decoder_input_ids"] = slowly_replaced(plain.model.train(), batch)
    del replaced[SAMPLED]
    changed = replaced["decoder_input_ids"] != batch["decoder_input_ids"]
    assert changed.any()
    assert not (changed & ~batch[SAMPLED]).any()
    assert_alike(loss_and_gradients(sampling, batch), loss_and_gradients(plain, replaced))


@pytest.mark.parametrize("kind, calls", [("bart", 1), ("t5", 1), ("bert2bert", 1), ("whisper", 2)])
def test_the_encoder_runs_once_where_that_is_the_same(kind, calls, tmp_path):
    trainer, seen = trainer_of(kind, tmp_path, scheduled_sampling=SAMPLING), []
    trainer.model.get_encoder().register_forward_hook(lambda *_: seen.append(1))
    loss_and_gradients(trainer, first_batch(trainer))
    assert len(seen) == calls


def test_a_wrapped_model_runs_whole_in_both_passes(tmp_path):
    """Its wrapper may have to see every call; what is read is the same."""

    class Wrapper(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.module = model

        def forward(self, **inputs: Any) -> Any:
            return self.module(**inputs)

    trainer = trainer_of("bart", tmp_path, scheduled_sampling=SAMPLING)
    batch, model = first_batch(trainer), trainer.model
    wrapped = SAMPLING.resampled(Wrapper(model), model, read_of(batch), batch)
    plain = SAMPLING.resampled(model, model, read_of(batch), batch)
    assert torch.equal(wrapped["decoder_input_ids"], plain["decoder_input_ids"])
    assert "encoder_outputs" in plain
    assert wrapped.keys() == read_of(batch).keys()


def test_under_autocast_the_second_pass_has_all_its_gradients(tmp_path):
    """Casts of the first pass, which has no graph, are not used again."""
    trainer = trainer_of("marian", tmp_path, scheduled_sampling=SAMPLING)
    batch, model = first_batch(trainer), trainer.model.train()
    with torch.autocast("cpu", torch.bfloat16):
        trainer.compute_loss(model, copy.copy(batch)).backward()
    found = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    model.zero_grad()
    plain = {name: batch[name] for name in (*READ, "labels") if name in batch}
    with torch.autocast("cpu", torch.bfloat16):
        model(**plain).loss.backward()
    wanted = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert found == wanted


def test_where_nothing_is_drawn_it_is_plain_training(tmp_path):
    never = trainer_of("bart", tmp_path, scheduled_sampling=ScheduledSampling(0.0))
    plain = trainer_of("bart", tmp_path)
    found = loss_and_gradients(never, first_batch(never))
    wanted = loss_and_gradients(plain, first_batch(plain))
    assert torch.equal(found[0], wanted[0])
    assert all(torch.equal(found[1][name], gradient) for name, gradient in wanted[1].items())


# -- which tokens ---------------------------------------------------------------------------------


def positions(sampling: ScheduledSampling, rows: list[list[int]], clock: Clock) -> torch.Tensor:
    from maskwright import Vocabulary

    tokens = Ragged.from_lists(rows)
    batch = TokenBatch(tokens, torch.arange(len(rows)).numpy())
    width = int(tokens.lengths.max())
    return sampling.positions(batch, Vocabulary.from_tokenizer(WORDS), clock, width)


def test_each_token_that_is_read_and_none_else():
    """Not the start token, not what stands for special tokens, not what is never read."""
    found = positions(ScheduledSampling(1.0), [[11, 2, 12, 3], [13, 3], [14]], Clock())
    assert found.int().tolist() == [[0, 1, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_draws_are_of_seed_sample_and_epoch_alone():
    rows = [[*range(5, 35), 3]] * 40
    first = positions(SAMPLING, rows, Clock(1, 0, 3))
    assert torch.equal(first, positions(SAMPLING, rows, Clock(1, 0, 9)))
    assert 0.45 < first[:, 1:].float().mean() < 0.55
    for clock in (Clock(2, 0), Clock(1, 1)):
        assert not torch.equal(first, positions(SAMPLING, rows, clock))
    fewer = positions(SAMPLING, rows[:3], Clock(1))
    assert torch.equal(fewer, first[:3])
    assert not torch.equal(first[0], first[1])


def test_the_probability_may_follow_a_schedule_and_spans_go_together():
    rows = [[*range(5, 35), 3]] * 20
    grows = ScheduledSampling(Linear(0.0, 0.5))
    shares = [
        positions(grows, rows, Clock(0, 0, step, 100))[:, 1:].float().mean() for step in (0, 50, 99)
    ]
    assert shares[0] == 0
    assert 0.2 < shares[1] < 0.3 < 0.45 < shares[2] < 0.55
    spans = positions(ScheduledSampling(0.3, select=Spans(Fixed(3))), rows, Clock())
    first = spans[:, 1:] & ~spans[:, :-1]
    assert int(spans.sum()) > 2 * int(first.sum())


def test_draws_are_apart_from_those_of_masks(tmp_path):
    trainer = trainer_of("bart", tmp_path, masks={"target": HALF}, scheduled_sampling=SAMPLING)
    batch = first_batch(trainer)
    masked = batch["decoder_input_ids"] == WORDS.mask_token_id
    assert not torch.equal(masked, batch[SAMPLED])
    assert (masked & batch[SAMPLED]).any()
    assert SAMPLED not in next(iter(trainer.get_eval_dataloader(PAIRS)))


def test_a_drawn_prediction_is_keyed(tmp_path):
    def replaced(temperature: float | None, seed: int = 3) -> torch.Tensor:
        sampling = ScheduledSampling(0.9, temperature=temperature)
        trainer = trainer_of("bart", tmp_path, masks={}, scheduled_sampling=sampling)
        batch, model = first_batch(trainer), trainer.model
        found = sampling.resampled(model, model, read_of(batch), batch, seed)
        return found["decoder_input_ids"]

    assert torch.equal(replaced(1.0), replaced(1.0))
    assert not torch.equal(replaced(1.0), replaced(1.0, seed=4))
    assert torch.equal(replaced(1e-4), replaced(None))


# -- a whole run ----------------------------------------------------------------------------------


def test_a_run_that_resumes_is_the_run_that_did_not_stop(tmp_path):
    def run(**changes: Any) -> Any:
        trainer = trainer_of(
            "bart", tmp_path, scheduled_sampling=ScheduledSampling(Linear(0.2, 0.9)), max_steps=4,
            save_strategy="steps", save_steps=2,
        )  # fmt: skip
        trainer.train(**changes)
        return trainer.model.state_dict()

    whole = run()
    again = run(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())


def test_a_model_that_feeds_itself_back_does_so(tmp_path):
    """Its forward takes ``sampled``, and there is no second pass."""

    class OwnWords(type(models.model("bart"))):
        def forward(self, *args: Any, sampled: Any = None, **others: Any) -> Any:
            self.seen = [*getattr(self, "seen", []), sampled]
            return super().forward(*args, **others)

    trainer = trainer_of("bart", tmp_path, scheduled_sampling=SAMPLING)
    trainer.model.__class__ = OwnWords
    batch = first_batch(trainer)
    loss_and_gradients(trainer, batch)
    assert [torch.equal(one, batch[SAMPLED]) for one in trainer.model.seen] == [True]


def test_a_model_that_feeds_itself_back_draws_nothing():
    from maskwright.models import LstmForConditionalGeneration, LstmSeq2SeqConfig

    model = LstmForConditionalGeneration(LstmSeq2SeqConfig(vocab_size=9, hidden_size=8))
    batch = {SAMPLED: torch.tensor([[False, True]])}
    assert ScheduledSampling().resampled(model, model, {}, batch) == batch
    with pytest.raises(
        ConfigError, match=r"temperature=0\.7\): LstmFor.* likeliest .* Leave temperature=None"
    ):
        ScheduledSampling(temperature=0.7).resampled(model, model, {}, batch)


def test_what_it_does_not_go_with(tmp_path):
    with pytest.raises(ConfigError, match="predicts all at once"):
        trainer_of(
            "bart", tmp_path, masks={"target": decoder_masking("cmlm", start_id=3)},
            scheduled_sampling=SAMPLING,
        )  # fmt: skip
    with pytest.raises(ConfigError, match=r"needs a PairCollator .* got MaskingCollator"):
        MaskingTrainer(
            models.model("bart"), tiny.arguments(tmp_path), MaskingCollator(WORDS), PAIRS,
            scheduled_sampling=SAMPLING,
        )  # fmt: skip
    with pytest.raises(PolicyError, match="share from 0 to 1"):
        ScheduledSampling(1.5)
    with pytest.raises(ConfigError, match="must be above 0"):
        ScheduledSampling(0.5, temperature=0.0)
