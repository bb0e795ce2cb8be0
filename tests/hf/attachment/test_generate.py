"""Generation under patterns: with a cache as without, with beams, left padding and columns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

from maskwright.attention import causal, prefix, same, wait_k, window
from maskwright.errors import AxisError, ModelError
from maskwright.hf import attach
from tests.hf.attachment.models import KINDS, LLAMA, PAD, VOCABULARY, inputs, make

DECODERS = ("gpt2", "llama", "qwen2")
BOTH = ("bart", "marian", "t5", "whisper", "encoder-decoder")
_STEPS: dict[str, Any] = {"max_new_tokens": 9, "min_new_tokens": 9, "do_sample": False}


def _generate(model: Any, batch: dict[str, Tensor], **options: Any) -> Tensor:
    fed = {name: x for name, x in batch.items() if name != "decoder_input_ids"}
    if "input_ids" in fed and "attention_mask" not in fed:
        fed["attention_mask"] = torch.ones_like(fed["input_ids"])
    out = model.generate(**fed, **{**_STEPS, **options}, return_dict_in_generate=True)
    return out.sequences


def _scores(model: Any, batch: dict[str, Tensor], **options: Any) -> Tensor:
    fed = {name: x for name, x in batch.items() if name != "decoder_input_ids"}
    if "input_ids" in fed and "attention_mask" not in fed:
        fed["attention_mask"] = torch.ones_like(fed["input_ids"])
    out = model.generate(
        **fed, **{**_STEPS, **options}, return_dict_in_generate=True, output_logits=True
    )
    return torch.stack(out.logits, 1)


def _both_ways(model: Any, batch: dict[str, Tensor], **patterns: Any) -> None:
    plain = _scores(model, batch)
    with attach(model, **patterns):
        cached = _scores(model, batch)
        anew = _scores(model, batch, use_cache=False)
    torch.testing.assert_close(cached, anew, atol=1e-4, rtol=1e-4)
    assert (cached - plain).abs().max() > 1e-3


@pytest.mark.parametrize("kind", DECODERS)
def test_the_cache_changes_nothing_in_a_decoder(kind: str) -> None:
    _both_ways(make(kind), inputs(kind), decoder=window(2))


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("patterns", [{"decoder": window(2)}, {"cross": wait_k(1)}])
def test_the_cache_changes_nothing_in_a_pair(kind: str, patterns: dict[str, Any]) -> None:
    _both_ways(make(kind), inputs(kind), **patterns)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5", "bart"])
def test_a_static_cache_gives_the_same(kind: str) -> None:
    model, batch = make(kind), inputs(kind)
    with attach(model, decoder=window(2)):
        expected = _scores(model, batch)
        found = _scores(model, batch, cache_implementation="static")
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "bart", "t5"])
def test_beams_with_and_without_a_cache(kind: str) -> None:
    model, batch = make(kind), inputs(kind)
    role = {"decoder": window(1)} if kind == "gpt2" else {"cross": wait_k(1), "decoder": window(1)}
    plain = _generate(model, batch, num_beams=3)
    with attach(model, **role):
        cached = _generate(model, batch, num_beams=3)
        anew = _generate(model, batch, num_beams=3, use_cache=False)
    assert torch.equal(cached, anew)
    assert not torch.equal(cached, plain)


def _padded(lengths: tuple[int, ...]) -> tuple[list[Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(4)
    singles = [torch.randint(3, VOCABULARY, (n,), generator=generator) for n in lengths]
    ids = torch.full((len(lengths), max(lengths)), PAD)
    for row, single in zip(ids, singles, strict=True):
        row[len(row) - len(single) :] = single
    return singles, {"input_ids": ids, "attention_mask": (ids != PAD).long()}


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("pattern", [window(2), window(1) | prefix(2)], ids=str)
def test_left_padding_changes_nothing(kind: str, pattern: Any) -> None:
    model = make(kind)
    singles, batch = _padded((3, 7, 5))
    with attach(model, decoder=pattern):
        together = _scores(model, batch)
        alone = [_scores(model, {"input_ids": one[None]}) for one in singles]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["t5"])
def test_left_padding_of_the_source_and_of_the_target(kind: str) -> None:
    model = make(kind)
    singles, batch = _padded((3, 7, 5))
    targets, target = _padded((2, 4, 6))
    with attach(
        model, encoder=window(2) | prefix(1), decoder=window(1) | prefix(1), cross=wait_k(1)
    ):
        together = model(
            **batch,
            decoder_input_ids=target["input_ids"],
            decoder_attention_mask=target["attention_mask"],
        ).logits
        for row, (source, one) in enumerate(zip(singles, targets, strict=True)):
            alone = model(input_ids=source[None], decoder_input_ids=one[None]).logits[0]
            torch.testing.assert_close(together[row, -len(one) :], alone, atol=1e-4, rtol=1e-4)


def test_a_prefix_language_model_generates() -> None:
    model, batch = make("gpt2"), inputs("gpt2")
    with attach(model, decoder=causal | prefix(9), combine="replace"):
        cached = _scores(model, batch)
        anew = _scores(model, batch, use_cache=False)
        seen = model(**batch, output_attentions=True).attentions[0]
    torch.testing.assert_close(cached, anew, atol=1e-4, rtol=1e-4)
    assert (seen > 0).all()


def test_columns_while_generating_with_beams() -> None:
    model, batch = make("gpt2"), inputs("gpt2")
    turns = torch.zeros(2, 40, dtype=torch.long)
    turns[0, 4:] = 1
    turns[1, 6:] = 1
    with attach(model, decoder=same("turn")) as attachment:
        with attachment.columns(decoder={"turn": turns}, copies=3):
            cached = _generate(model, batch, num_beams=3)
            anew = _generate(model, batch, num_beams=3, use_cache=False)
        assert torch.equal(cached, anew)
        for row in range(2):
            with attachment.columns(decoder={"turn": turns[row]}):
                alone = _generate(
                    model, {"input_ids": batch["input_ids"][row : row + 1]}, num_beams=3
                )
            assert torch.equal(alone[0], cached[row])
        with (
            attachment.columns(decoder={"turn": turns}),
            pytest.raises(AxisError, match="copies"),
        ):
            _generate(model, batch, num_beams=3)
        with (
            attachment.columns(decoder={"turn": turns[:, :9]}),
            pytest.raises(AxisError, match="generating"),
        ):
            _generate(model, batch)


@pytest.mark.parametrize("options", [{}, {"cache_implementation": "static"}], ids=str)
def test_a_cache_that_slides(options: dict[str, Any]) -> None:
    """Mistral keeps the last keys only, here behind left padding."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = hf.MistralForCausalLM(hf.MistralConfig(**LLAMA, sliding_window=4)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.3)
    _, batch = _padded((3, 7, 5))
    plain = _scores(model, batch)
    with attach(model, decoder=window(2) | prefix(1)):
        cached = _scores(model, batch, **options)
        anew = _scores(model, batch, use_cache=False)
    torch.testing.assert_close(cached, anew, atol=1e-4, rtol=1e-4)
    assert (cached - plain).abs().max() > 1e-3


def test_a_cache_filled_in_pieces() -> None:
    model, ids = make("llama").double(), inputs("llama")["input_ids"]
    with attach(model, decoder=window(2)), torch.no_grad():
        whole = model(ids, use_cache=False).logits
        cache = hf.DynamicCache(config=model.config)
        pieces = [model(part, past_key_values=cache).logits for part in ids.split([4, 3, 2], 1)]
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-6, rtol=1e-6)


def test_a_cache_that_dropped_keys_cannot_be_seen_again() -> None:
    model, batch = make("qwen2"), inputs("qwen2")
    with (
        attach(model, decoder=causal, combine="replace"),
        pytest.raises(ModelError, match="dropped the first"),
    ):
        _scores(model, batch)


def test_every_kind_of_model_is_here() -> None:
    encoders = {kind for kind, known in KINDS.items() if known.roles == ("encoder",)}
    assert set(KINDS) == encoders | set(DECODERS) | set(BOTH)
