"""Every pattern of a cross-attention while generating: with a cache or without, and with beams."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from maskwright.attention import (
    aligned,
    copy_only,
    marked,
    monotonic_window,
    padding,
    segments,
    threshold,
    top_k,
    wait_k,
)
from maskwright.errors import AxisError, ConfigError, PatternError
from maskwright.hf import attach
from maskwright.hf.attachment.score_gates import ScoreThreshold, TopScores
from tests.hf.attachment.models import KINDS, inputs, make
from tests.hf.attachment.oracle import by_hand

_STEPS: dict[str, Any] = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
LINKS = [(0, 1), (1, 0), (2, 2), (3, 4), (4, 3), (5, 5), (6, 1)]
# a pattern, and the same as a rule on target and source positions
PATTERNS: dict[str, tuple[Any, Any]] = {
    "padding": (padding, lambda t, s: True),
    "wait_k": (wait_k(2, 0.5), lambda t, s: s < 1 + (t + 2) // 2),
    "monotonic_window": (monotonic_window(1, 1, 1.0), lambda t, s: abs(t - s) <= 1),
    "aligned": (aligned(LINKS, 1), lambda t, s: t > 6 or abs(dict(LINKS)[t] - s) <= 1),
    "segments": (segments({0: 0, 1: (0, 1)}), lambda t, s: s < 3 or t >= 2),
    "marked": (marked("evidence"), lambda t, s: s % 2 == 0),
    "copy_only": (copy_only, lambda t, s: s % 3 != 1),
}
ENCODER: dict[str, Tensor] = {
    "segments": (torch.arange(12) >= 3).long(),
    "evidence": torch.arange(12) % 2 == 0,
    "copy": torch.arange(12) % 3 != 1,
}
DECODER: dict[str, Tensor] = {"segments": (torch.arange(20) >= 2).long()}


def _source(kind: str) -> dict[str, Tensor]:
    batch = {name: x for name, x in inputs(kind).items() if name != "decoder_input_ids"}
    if kind != "whisper":
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        batch["attention_mask"][0, 7:] = 0
    return batch


def _written(model: Any, batch: dict[str, Tensor], **options: Any) -> Tensor:
    out = model.generate(**batch, **{**_STEPS, **options}, return_dict_in_generate=True)
    return out.sequences


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("kind", ["bart", "marian", "t5", "whisper"])
def test_generation_is_that_of_a_mask_made_by_hand(kind: str, name: str) -> None:
    """Greedy with a cache, against the whole target anew under an eager model's own mask."""
    model, batch = make(kind), _source(kind)
    pattern, rule = PATTERNS[name]
    sources = 12 if kind == "whisper" else 9
    columns = {key: column[:sources] for key, column in ENCODER.items()}
    with attach(model, cross=pattern) as attachment:
        attachment.columns(columns, DECODER)
        found = _written(model, batch)
        beams = [_written(model, batch, num_beams=3, use_cache=use) for use in (True, False)]
    assert torch.equal(*beams)
    with by_hand(model, "cross", rule), torch.no_grad():
        whole = model(**batch, decoder_input_ids=found[:, :-1]).logits
    first = found.shape[1] - 6
    likeliest = whole[:, first - 1 :].clone()
    likeliest[..., model.generation_config.eos_token_id] = -torch.inf
    assert torch.equal(likeliest.argmax(-1), found[:, first:])


def test_an_alignment_of_each_sample_with_beams() -> None:
    model, batch = make("marian"), _source("marian")
    links = [LINKS, [(t, 6 - s) for t, s in LINKS]]
    with attach(model, cross=aligned(links)):
        greedy = _written(model, batch)
        with pytest.raises(AxisError, match="batch of an attention must be one number"):
            _written(model, batch, num_beams=2)
    for row in range(2):
        with attach(model, cross=aligned(links[row])):
            alone = _written(model, {name: x[row : row + 1] for name, x in batch.items()})
        assert torch.equal(alone[0], greedy[row])
    copies = [one for one in links for _ in range(2)]
    with attach(model, cross=aligned(copies)):
        beams = [_written(model, batch, num_beams=2, use_cache=use) for use in (True, False)]
    assert torch.equal(*beams)


def test_a_table_of_scores_is_for_one_length() -> None:
    model, batch = make("bart"), inputs("bart")
    scores = torch.rand(7, 9, generator=torch.Generator().manual_seed(0))
    patterns: list[Any] = [top_k(scores, 3), threshold(scores, 0.5)]
    for pattern in patterns:
        with attach(model, cross=pattern):
            out = model(**batch, output_attentions=True).cross_attentions[0]
            assert ((out > 0) == pattern.table.values[0, 0]).all()
            with pytest.raises(AxisError, match=r"top_k|threshold"):
                _written(model, _source("bart"))


# -- by the scores of the attention itself ------------------------------------------------------


def _weights(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return model(**batch, output_attentions=True).cross_attentions


@pytest.mark.parametrize("kind", ["bart", "t5", "whisper", "encoder-decoder"])
@pytest.mark.parametrize("gate", [TopScores(2), ScoreThreshold(0.2)], ids=str)
def test_the_best_of_each_query(kind: str, gate: Any) -> None:
    model, batch = make(kind), inputs(kind)
    if kind != "whisper":
        batch["attention_mask"] = _source(kind)["attention_mask"]
    with attach(model, cross=padding):
        plain = _weights(model, batch)[0]
    with attach(model, scores={"cross": gate}):
        found = _weights(model, batch)[0]
    for row, kept in zip(plain.flatten(0, 2), found.flatten(0, 2), strict=True):
        order = sorted(range(len(row)), key=lambda j: (-float(row[j]), j))
        if isinstance(gate, TopScores):
            few = order[:2]
        else:
            few = [j for j in order if row[j] >= 0.2] or order[:1]
        expected = torch.zeros_like(row)
        expected[few] = row[few] / row[few].sum()
        torch.testing.assert_close(kept, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gate", [TopScores(2), ScoreThreshold(0.15)], ids=str)
@pytest.mark.parametrize("kind", ["bart", "marian", "t5", "whisper"])
def test_scores_while_generating(kind: str, gate: Any) -> None:
    model, batch = make(kind), _source(kind)
    with attach(model, cross=wait_k(4), scores={"cross": gate}):
        for beams in (1, 3):
            cached = _written(model, batch, num_beams=beams)
            assert torch.equal(cached, _written(model, batch, num_beams=beams, use_cache=False))


def test_gradients_pass_through_what_is_kept() -> None:
    model, batch = make("bart"), inputs("bart")
    with attach(model, scores={"cross": TopScores(3), "decoder": TopScores(2)}):
        model(**batch, labels=batch["decoder_input_ids"]).loss.backward()
        seen = model(**batch, output_attentions=True)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert ((seen.cross_attentions[1] > 0).sum(-1) == 3).all()
    counts = (seen.decoder_attentions[0] > 0).sum(-1)
    assert (counts == torch.tensor([1, 2, 2, 2, 2, 2, 2])).all()


def test_bad_scores() -> None:
    with pytest.raises(ConfigError, match="k=0 of TopScores"):
        TopScores(0)
    with pytest.raises(ConfigError, match="tau=0 of ScoreThreshold"):
        ScoreThreshold(0)
    with pytest.raises(PatternError, match=r"role in scores= of attach 'crss'\. Did you mean"):
        attach(make("bart"), scores={"crss": TopScores(1)})  # type: ignore[dict-item]
    assert "cross" in KINDS["bart"].roles
