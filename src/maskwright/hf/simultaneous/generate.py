"""Simultaneous decoding: the target is written while the source is read, ``k`` tokens behind it.

Source: Ma et al., "STACL", 2019 (arXiv:1810.08398): wait-k, and the delays g(t).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, LogitsProcessorList
from transformers.modeling_outputs import BaseModelOutput

from maskwright.attention.rules.streaming import WaitK, fraction
from maskwright.errors import ConfigError, ModelError
from maskwright.hf.simultaneous.forbidden import processors
from maskwright.hf.simultaneous.source import BatchSource, Source, StreamSource


@dataclass(frozen=True)
class Written:
    """What was written, and how much had been read for it. B samples.

    Attributes:
        tokens: of each sample, without what the decoder starts with and padding; the end token is
            the last, unless the target was cut at its greatest length.
        delays: g(t) for each of these tokens: source tokens that had been read when it was written.
        source_lengths: of each sample, as far as it was read.
    """

    tokens: list[list[int]]
    delays: list[list[int]]
    source_lengths: list[int]


@torch.no_grad()
def simultaneous_generate(
    model: Any,
    input_ids: Tensor | Iterable[int],
    attention_mask: Tensor | None = None,
    *,
    k: int,
    rate: float = 1,
    max_new_tokens: int | None = None,
    end_early: bool = True,
    logits_processor: Any = None,
) -> Written:
    """Write targets greedily while their sources are read; each token sees what was read by then.

    Target token ``t``, counted from 0, is written once ``k + rate * t`` source tokens were read, as
    in the pattern `wait_k`, or all where the source ends sooner. Whenever more was read, the whole
    prefix is encoded anew, so that any encoder will do: nothing of it looks ahead, also where its
    attention is bidirectional. The decoder keeps what its self-attention saw of target tokens when
    they were written; its cross-attention looks at the new encoding. For a model trained
    with ``attach(model, encoder=causal, cross=wait_k(k, rate))`` earlier states of the encoder do
    not change, and this is, token for token, what it was trained on. Patterns may stay attached.

    Args:
        model: an encoder–decoder of transformers that reads token ids and has a cache.
        input_ids: ``(S,)`` or ``(batch, S)``, padded on the right; or any iterable of ids, from
            which no more is taken than was read. The end token of the source is one of its tokens.
        attention_mask: 0 at padding.
        k: source tokens read before the first target token, 1 or more.
        rate: source tokens read for each target token written.
        max_new_tokens: the longest target; what the model's generation config says unless given.
        end_early: whether a target may end before its source was read to the end.
        logits_processor: more processors of transformers, after those that the model's generation
            config asks for.

    Raises:
        PatternError: ``k`` or the rate is outside its range.
        ConfigError: max_new_tokens is none.
        BatchError: a source is empty or padded on its left.
        ModelError: the model is no encoder–decoder that reads tokens, or does not say its start.
    """
    source = _source(model, input_ids, attention_mask)
    tokens: list[list[int]] = [[] for _ in range(source.rows)]
    delays: list[list[int]] = [[] for _ in range(source.rows)]
    lengths = [0] * source.rows
    steps = _steps(model, source, k, rate, max_new_tokens, end_early, logits_processor)
    for written, read, open_rows in steps:
        lengths = read
        for row in range(source.rows):
            if open_rows[row]:
                tokens[row].append(written[row])
                delays[row].append(read[row])
    return Written(tokens, delays, lengths)


def simultaneous_stream(
    model: Any, tokens: Iterable[int], *, k: int, **options: Any
) -> Iterator[tuple[int, int]]:
    """As `simultaneous_generate` of one source, each token as soon as it is written.

    Yields:
        the token, and how many source tokens had been read.

    Raises:
        the errors of `simultaneous_generate`, when the first token is asked for.
    """
    settings = {
        "rate": 1,
        "max_new_tokens": None,
        "end_early": True,
        "logits_processor": None,
        **options,
    }
    with torch.no_grad():
        steps = _steps(model, _source(model, tokens, None), k, **settings)
    while True:
        with torch.no_grad():  # not around the yield: the caller's code is none of ours
            step = next(steps, None)
        if step is None:
            return
        yield step[0][0], step[1][0]


def _steps(
    model: Any,
    source: Source,
    k: int,
    rate: float,
    max_new_tokens: int | None,
    end_early: bool,
    logits_processor: Any,
) -> Iterator[tuple[list[int], list[int], list[bool]]]:
    """Each step: tokens, source tokens read, and whether the row was still open, of each row."""
    policy = WaitK(k, rate)
    settings = _Settings.of(model, max_new_tokens)
    process = LogitsProcessorList([*processors(model, settings.longest), *(logits_processor or [])])
    device = model.device
    target = torch.full((source.rows, 1), settings.start, device=device)
    itself = DynamicCache(config=_decoder_config(model))
    cache: Any = None
    # a recurrent decoder hands on a state of its own, in which there are no keys
    keyed = model._supports_default_dynamic_cache()
    was = model.training
    model.eval()
    try:
        opened = [True] * source.rows
        encoded, seen = None, -1
        for step in range(settings.longest):
            ids, mask = source.read(_read_by(policy, step))
            if ids.shape[1] != seen:
                seen = ids.shape[1]
                ids, mask = ids.to(device), mask.to(device)
                found = model.get_encoder()(input_ids=ids, attention_mask=mask)
                encoded = BaseModelOutput(last_hidden_state=found[0]) if keyed else found
                # what the decoder saw of its own tokens stays; keys of the source are made anew
                if keyed:
                    cache = EncoderDecoderCache(itself, DynamicCache(config=_decoder_config(model)))
            out = model(
                encoder_outputs=encoded,
                attention_mask=mask.to(device),
                decoder_input_ids=target[:, -1:],
                past_key_values=cache,
                use_cache=True,
            )
            if not keyed:
                cache = out.past_key_values
            scores = process(target, out.logits[:, -1].float())  # type: ignore[arg-type]
            if not end_early and not source.ended(seen):
                scores[:, settings.ends] = -torch.inf
            chosen = scores.argmax(-1)
            closed = torch.tensor([not one for one in opened], device=device)
            chosen = torch.where(closed, settings.pad, chosen)
            target = torch.cat([target, chosen[:, None]], 1)
            written = chosen.tolist()
            yield written, source.lengths(seen), list(opened)
            opened = [
                one and token not in settings.ends
                for one, token in zip(opened, written, strict=True)
            ]
            if not any(opened):
                return
    finally:
        model.train(was)


def _read_by(policy: WaitK, step: int) -> int:
    """Source tokens that target token ``step`` sees, as `WaitK.allowed` has it."""
    over, under = fraction(policy.rate)
    return -((step + 1) * -over // under) + policy.k + -over // under


@dataclass(frozen=True)
class _Settings:
    start: int
    ends: list[int]
    pad: int
    longest: int

    @classmethod
    def of(cls, model: Any, max_new_tokens: int | None) -> _Settings:
        config: Any = model.generation_config
        start = config.decoder_start_token_id
        start = config.bos_token_id if start is None else start
        if start is None:
            raise ModelError(
                f"{type(model).__name__} does not say what its decoder starts with: set "
                "model.generation_config.decoder_start_token_id."
            )
        ends = config.eos_token_id
        ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
        longest = max_new_tokens
        if longest is None:
            longest = config.max_new_tokens or (config.max_length or 20) - 1
        if isinstance(longest, bool) or not isinstance(longest, int) or longest < 1:
            raise ConfigError(
                f"max_new_tokens={longest!r} of simultaneous_generate: it is a whole number, 1 or "
                "more."
            )
        pad = config.pad_token_id
        return cls(start, ends, (ends[0] if ends else 0) if pad is None else pad, longest)


def _source(model: Any, ids: Any, mask: Tensor | None) -> Source:
    name = type(model).__name__
    writes = getattr(model, "can_generate", lambda: False)()
    if not writes or not getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(
            f"{name} is no encoder–decoder that writes one token after another, so it has no "
            "source to read beside what it writes. Load one with AutoModelForSeq2SeqLM."
        )
    if model.main_input_name != "input_ids":
        raise ModelError(
            f"{name} reads {model.main_input_name}, not token ids: its source cannot be read one "
            "token after another. Write with model.generate() when the source is all there, or "
            "take an encoder–decoder of text (Marian, BART, T5, EncoderDecoderModel)."
        )
    if isinstance(ids, Tensor):
        return BatchSource(ids, mask)
    if mask is not None:
        raise ConfigError("attention_mask goes with input_ids that are a tensor, not a stream.")
    return StreamSource(ids, model.device)


def _decoder_config(model: Any) -> Any:
    return model.config.get_text_config(decoder=True)
