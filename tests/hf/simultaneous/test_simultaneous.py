"""Writing while reading: against greedy generation and the training mask; no look ahead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from maskwright.attention import causal, wait_k
from maskwright.errors import BatchError, ConfigError, ModelError, PatternError
from maskwright.hf import attach
from maskwright.hf.conditional.model import ConditionalMaskedLM
from maskwright.hf.simultaneous.generate import simultaneous_generate, simultaneous_stream
from tests.hf.attachment.models import BOS, EOS, PAD, inputs, make
from tests.hf.conditional.tiny_seq2seq import FORM, seq2seq

KINDS = ("bart", "marian", "t5", "encoder-decoder")


class _Seen:
    """A logits processor that keeps what it is shown."""

    def __init__(self) -> None:
        self.scores: list[Tensor] = []

    def __call__(self, _ids: Tensor, scores: Tensor) -> Tensor:
        self.scores.append(scores.clone())
        return scores


def _source(batch: int = 2) -> Tensor:
    return inputs("bart", batch=batch)["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_that_is_read_first_gives_what_greedy_gives(kind: str) -> None:
    model, ids = make(kind), _source()
    mask = torch.ones_like(ids)
    mask[0, 6:] = 0
    ids[0, 6:] = PAD
    expected = model.generate(
        input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=9
    )[:, 1:]
    found = simultaneous_generate(model, ids, mask, k=9, max_new_tokens=9)
    for row, tokens in enumerate(found.tokens):
        assert tokens == expected[row, : len(tokens)].tolist()
        assert tokens[-1] == EOS or len(tokens) == 9
        assert (expected[row, len(tokens) :] == PAD).all()
    assert found.source_lengths == [6, 9]
    assert found.delays == [[6] * len(found.tokens[0]), [9] * len(found.tokens[1])]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k, rate", [(1, 1), (3, 1), (2, 0.5), (1, 1.5)])
def test_it_is_what_was_trained_under_the_pattern(kind: str, k: int, rate: float) -> None:
    """A causal encoder and wait-k: each step's scores are those of the whole, teacher-forced."""
    model, ids = make(kind), _source()
    seen = _Seen()
    options: dict[str, Any] = {"k": k, "rate": rate, "max_new_tokens": 7}
    with attach(model, encoder=causal):
        free = simultaneous_generate(model, ids, **options, logits_processor=[seen])
    with attach(model, encoder=causal, cross=wait_k(k, rate)):
        bound = simultaneous_generate(model, ids, **options)
        longest = max(map(len, free.tokens))
        read = torch.full((2, longest), PAD)
        read[:, 0] = BOS
        for row, tokens in enumerate(free.tokens):
            read[row, 1 : len(tokens)] = torch.tensor(tokens[:-1])
        with torch.no_grad():
            whole = model(input_ids=ids, decoder_input_ids=read).logits
    assert free == bound
    for row, tokens in enumerate(free.tokens):
        for step in range(len(tokens)):
            torch.testing.assert_close(
                seen.scores[step][row], whole[row, step].detach(), atol=1e-4, rtol=1e-4
            )
        pattern = wait_k(k, rate).dense(*_axes(len(tokens), 9))[0, 0]
        assert free.delays[row] == pattern.sum(1).tolist()


def _axes(q: int, kv: int) -> tuple[Any, Any]:
    from maskwright.attention import Axis

    return Axis(q), Axis(kv)


@pytest.mark.parametrize("kind", KINDS)
def test_unread_words_change_nothing_bit_for_bit(kind: str) -> None:
    model, ids = make(kind), _source()
    other = ids.clone()
    other[:, 5:] = other[:, 5:].flip(1) + 1 - other[:, 5:] % 2 * 2
    assert (other[:, 5:] != ids[:, 5:]).any(1).all()
    first, second = _Seen(), _Seen()
    kept: dict[str, Any] = {"k": 2, "max_new_tokens": 7}
    one = simultaneous_generate(model, ids, **kept, logits_processor=[first])
    two = simultaneous_generate(model, other, **kept, logits_processor=[second])
    # the tokens 0 to 3 are written before the sixth source token is read
    for step in range(4):
        assert torch.equal(first.scores[step], second.scores[step])
    assert [tokens[:4] for tokens in one.tokens] == [tokens[:4] for tokens in two.tokens]
    assert not torch.equal(first.scores[4], second.scores[4])


def _stream(ids: Tensor, taken: list[int]) -> Iterator[int]:
    for token in ids.tolist():
        taken.append(token)
        yield token


def test_a_stream_is_read_no_further_than_it_must() -> None:
    model, ids = make("marian"), _source(1)[0]
    whole = simultaneous_generate(model, ids, k=2, max_new_tokens=6)
    taken: list[int] = []
    written, reads = [], []
    for token, delay in simultaneous_stream(model, _stream(ids, taken), k=2, max_new_tokens=6):
        written.append(token)
        reads.append((delay, len(taken)))
    assert [written] == whole.tokens
    assert [[delay for delay, _ in reads]] == whole.delays
    assert all(delay == count for delay, count in reads)
    again = simultaneous_generate(model, iter(ids.tolist()), k=2, max_new_tokens=6)
    assert again == whole
    late = simultaneous_generate(model, ids.tolist()[:3], k=2, max_new_tokens=6)
    assert late.source_lengths == [3]
    assert late.delays[0] == [2, 3, 3, 3, 3, 3][: len(late.tokens[0])]


def test_samples_of_a_batch_are_those_alone() -> None:
    model, ids = make("t5"), _source(3)
    mask = torch.ones_like(ids)
    mask[0, 4:], mask[1, 7:] = 0, 0
    together = simultaneous_generate(model, ids, mask, k=2, max_new_tokens=7)
    for row, length in enumerate((4, 7, 9)):
        alone = simultaneous_generate(model, ids[row, :length], k=2, max_new_tokens=7)
        assert alone.tokens[0] == together.tokens[row]
        assert alone.delays[0] == together.delays[row]


def test_a_target_that_may_not_end_early() -> None:
    model, ids = make("bart"), _source()
    ended: list[int] = []

    def wants_to_end(_ids: Tensor, scores: Tensor) -> Tensor:
        ended.append(len(ended))
        return scores.index_fill(1, torch.tensor([EOS]), 1e4)

    options: dict[str, Any] = {"k": 2, "max_new_tokens": 20, "logits_processor": [wants_to_end]}
    assert simultaneous_generate(model, ids, **options).delays == [[2], [2]]
    found = simultaneous_generate(model, ids, **options, end_early=False)
    assert found.delays == [[2, 3, 4, 5, 6, 7, 8, 9]] * 2
    assert all(tokens[-1] == EOS and EOS not in tokens[:-1] for tokens in found.tokens)


def test_the_model_is_left_as_it_was() -> None:
    model, ids = make("bart").train(), _source()
    simultaneous_generate(model, ids, k=1, max_new_tokens=2)
    assert model.training
    steps: Any = simultaneous_stream(model, ids[0].tolist(), k=1, max_new_tokens=4)
    next(steps)
    assert torch.is_grad_enabled()
    steps.close()
    assert model.training


def test_bad_input() -> None:
    model, ids = make("bart"), _source()
    for k in (0, -1, True, 1.5):
        with pytest.raises(PatternError, match=f"k={k}"):
            simultaneous_generate(model, ids, k=k)  # type: ignore[arg-type]
    with pytest.raises(PatternError, match="rate=0"):
        simultaneous_generate(model, ids, k=1, rate=0)
    with pytest.raises(ConfigError, match="max_new_tokens=0"):
        simultaneous_generate(model, ids, k=1, max_new_tokens=0)
    mask = torch.ones_like(ids)
    mask[1] = 0
    with pytest.raises(BatchError, match="Source 1 of the batch has no tokens"):
        simultaneous_generate(model, ids, mask, k=1)
    mask[1, 3:] = 1
    with pytest.raises(BatchError, match='padding_side="right"'):
        simultaneous_generate(model, ids, mask, k=1)
    with pytest.raises(BatchError, match="stream has no tokens"):
        simultaneous_generate(model, [], k=1)
    with pytest.raises(BatchError, match="Token 1 of the stream is 'a'"):
        simultaneous_generate(model, [4, "a"], k=2)  # type: ignore[list-item]
    with pytest.raises(ModelError, match="no encoder–decoder"):
        simultaneous_generate(make("gpt2"), ids, k=1)
    conditional = ConditionalMaskedLM(seq2seq("marian"), FORM)
    with pytest.raises(ModelError, match="ConditionalMaskedLM is no encoder–decoder that writes"):
        simultaneous_generate(conditional, ids, k=1)


@pytest.mark.parametrize("source", [torch.zeros(1, 4, 16), _source(), [5, 6]])
def test_sounds_are_not_read_token_by_token(source: Any) -> None:
    whisper = make("whisper")
    said = r"WhisperFor\w+ reads input_features, not token ids: .* Write with model\.generate\(\)"
    with pytest.raises(ModelError, match=said):
        simultaneous_generate(whisper, source, k=1)
    with pytest.raises(ModelError, match=said):
        next(simultaneous_stream(whisper, source, k=1))
