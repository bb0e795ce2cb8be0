"""Writing targets by filling in masks: mask-predict, and blocks from left to right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from maskwright.errors import BatchError, ConfigError, ModelError
from maskwright.hf.conditional.best_tokens import BestTokens
from maskwright.hf.conditional.both_sides import refuse_other_sources
from maskwright.hf.conditional.filling import Passes, Remask, Repeats, fill, without_repeats
from maskwright.hf.conditional.kept_projections import SourceStates
from maskwright.hf.conditional.model import ConditionalMaskedLM
from maskwright.hf.conditional.target_form import TargetForm
from maskwright.hf.pairs.limits import longest_of

Lengths = Sequence[int] | Sequence[Sequence[int]] | Tensor | None


@dataclass(frozen=True)
class Filled:
    """Targets that were written.

    Attributes:
        tokens: ``(B, L)`` int64: with what begins and ends a target, then padding. As labels are.
        scores: ``(B,)`` float32: the mean logarithmic probability of a target's words, each as it
            was when the word was last predicted.
        lengths: ``(B,)`` int64: words of each target, without what begins and ends it.
        passes: how often the decoder ran.
    """

    tokens: Tensor
    scores: Tensor
    lengths: Tensor
    passes: int


def mask_predict(
    model: ConditionalMaskedLM,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    passes: int = 4,
    length_beam: int = 5,
    lengths: Lengths = None,
    remask: Remask = "least-certain",
    repeats: Repeats = "keep",
    stop: bool = False,
    max_length: int | None = None,
) -> Filled:
    """Write targets in a few passes (Ghazvininejad et al., 1904.09324, section 3).

    All words are masked at first. Each pass predicts those that are masked, and then masks the
    ``N · (T - t) / T`` least certain words again (rounded down; of equally certain ones the first).
    The likeliest lengths are written side by side, and the target with the highest mean logarithmic
    probability is kept. Special tokens are never predicted. Nothing is drawn by chance.

    Args:
        model: of `conditional`.
        input_ids: ``(B, S)`` sources.
        attention_mask: ``(B, S)``, 0 at padding; None: there is none.
        passes: ``T``; 1 predicts all words at once.
        length_beam: how many lengths are tried.
        lengths: words of each target, ``(B,)`` or ``(B, C)`` to try several; the length head's
            unless given.
        remask: ``"least-certain"``: as above; ``"easy-first"``: a word that was once left standing
            stays, so that the most certain ones are settled first.
        repeats: of two equal words in a row, a frequent fault of such models: ``"keep"`` both, as
            the paper does; ``"remask"``: the less certain one is masked before any other word;
            ``"drop"``: the second is left out in the end.
        stop: leave a target alone after a pass that changed none of its words. A later pass might
            have.
        max_length: the longest target, in words; at most what the model has positions for.

    Raises:
        ConfigError: a setting is out of range.
        BatchError: a source is empty or longer than the model, or a length is out of range.
        ModelError: it is no conditional model, or has no length head and is given no lengths.
    """
    how = _passes(passes, remask, repeats, stop)
    settings = (lengths, length_beam, max_length)
    return _write(model, input_ids, attention_mask, how, None, *settings)


def block_decode(
    model: ConditionalMaskedLM,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    block: int,
    passes: int = 4,
    length_beam: int = 5,
    lengths: Lengths = None,
    remask: Remask = "least-certain",
    repeats: Repeats = "keep",
    stop: bool = False,
    max_length: int | None = None,
) -> Filled:
    """Write targets block by block from left to right, each block by `mask_predict`.

    Every word is masked at first. The words of the first block are filled in by ``passes`` passes,
    while all later ones stay masked; then they are fixed, and the next block's turn comes. With
    ``block=1`` a target is written word by word, with a block of its length as by `mask_predict`.
    This is the semi-autoregressive remasking of LLaDA (2502.09992), with mask-predict's schedule,
    and needs no other training than the policy ``cmlm``. It is not the semi-autoregressive
    Transformer (1808.08583), whose decoder is causal between blocks and chooses the length itself.

    Args: as for `mask_predict`, and
        block: words of a block.
        passes: of each block; a block of fewer words takes at most as many.

    Raises: as `mask_predict`.
    """
    if isinstance(block, bool) or not isinstance(block, int) or block < 1:
        raise ConfigError(f"block={block!r} of block_decode: it is a whole number, 1 or more.")
    how = _passes(passes, remask, repeats, stop)
    settings = (lengths, length_beam, max_length)
    return _write(model, input_ids, attention_mask, how, block, *settings)


@torch.no_grad()
def _write(
    model: ConditionalMaskedLM,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    how: Passes,
    block: int | None,
    lengths: Lengths,
    length_beam: int,
    max_length: int | None,
) -> Filled:
    if not isinstance(model, ConditionalMaskedLM):
        refuse_other_sources(model)  # no conditional model is made of it
        raise ModelError(
            f"mask_predict takes a conditional masked language model, got {type(model).__name__}. "
            "Make one: maskwright.hf.conditional(model, tokenizer), and train it."
        )
    mask = _checked(model, input_ids, attention_mask)
    longest = _longest(model, max_length)
    training = model.training
    model.eval()
    try:
        states = model.encode(input_ids, mask)
        if lengths is None:
            count = _count("length_beam", length_beam)
            tried = _predicted(model, states, mask, count, longest)
        else:
            tried = _given(lengths, len(input_ids), longest)
        samples, words = _candidates(tried)
        source = SourceStates(states, mask)
        with source.kept(model.model):
            tokens, confidence, asked = _fill(model, source, samples, words, how, block)
    finally:
        model.train(training)
    best, scores = _best(samples, words, confidence, len(input_ids))
    return _written(model.form, tokens[best], words[best], scores, asked, how.repeats)


def _fill(
    model: ConditionalMaskedLM,
    source: SourceStates,
    samples: Tensor,
    words: Tensor,
    how: Passes,
    block: int | None,
) -> tuple[Tensor, Tensor, int]:
    """Targets of given lengths: ``(R, L)`` tokens, confidence (0 where no word is), and passes."""
    form = model.form
    tokens = _masked_targets(form, words)
    places = torch.arange(tokens.shape[1], device=words.device) - len(form.prefix)
    written = (places >= 0) & (places < words.unsqueeze(1))
    valid = places < words.unsqueeze(1) + len(form.suffix)
    best = BestTokens(model, form.never, form.size)

    def predict(rows: Tensor, tokens: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        width = form.frame + int(words[rows].max())
        states, mask = source.of(samples[rows])
        inputs = {
            **model.inputs(states, mask),
            "decoder_input_ids": tokens[:, :width],
            "decoder_attention_mask": valid[rows, :width],
        }
        where = masked[:, :width].flatten().nonzero().squeeze(1)
        return best(where, (len(rows), width), inputs)

    confidence = torch.zeros(tokens.shape, device=words.device)
    asked, longest = 0, int(words.max())
    size = longest if block is None else block
    for start in range(0, longest, size):
        part = written & (places >= start) & (places < start + size)
        asked += fill(tokens, confidence, part, form.mask_id, how, predict)
    return tokens, confidence, asked


def _masked_targets(form: TargetForm, words: Tensor) -> Tensor:
    """``(R, L)``: prefix, as many masks as there are words, suffix, padding."""
    longest = int(words.max())
    rows = [
        [*form.prefix, *[form.mask_id] * count, *form.suffix, *[form.pad_id] * (longest - count)]
        for count in words.tolist()
    ]
    return torch.tensor(rows, device=words.device)


def _candidates(tried: Tensor) -> tuple[Tensor, Tensor]:
    """``(R,)`` samples and ``(R,)`` words of each target that is tried; none twice."""
    again = torch.zeros_like(tried, dtype=torch.bool)
    for column in range(1, tried.shape[1]):
        again[:, column] = (tried[:, :column] == tried[:, column : column + 1]).any(1)
    kept = (tried > 0) & ~again
    return kept.nonzero()[:, 0], tried[kept]


def _best(samples: Tensor, words: Tensor, confidence: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """``(B,)`` which target of each sample is kept, of equals the first, and its score."""
    means = confidence.sum(1) / words
    own, scores = samples.cpu().numpy(), means.cpu().numpy()
    order = np.lexsort((np.arange(len(own)), -scores, own))
    first = np.searchsorted(own[order], np.arange(batch))
    best = torch.from_numpy(order[first]).to(words.device)
    return best, means[best]


def _written(
    form: TargetForm, tokens: Tensor, words: Tensor, scores: Tensor, asked: int, repeats: Repeats
) -> Filled:
    if repeats == "drop":
        places = torch.arange(tokens.shape[1], device=words.device) - len(form.prefix)
        real = (places >= 0) & (places < words.unsqueeze(1))
        tokens, words = without_repeats(tokens, real, form.pad_id)
    width = form.frame + int(words.max())
    return Filled(tokens[:, :width].contiguous(), scores, words, asked)


def _predicted(
    model: ConditionalMaskedLM, states: Tensor, mask: Tensor | None, beam: int, longest: int
) -> Tensor:
    """``(B, C)`` likeliest lengths, 0 where there are no more."""
    if model.lengths is None:
        raise ModelError(
            "The model has no length head (reach=0), so lengths= must say how many words each "
            "target has."
        )
    size = states.shape[1]
    if mask is None:
        source = torch.full((len(states),), size, device=states.device)
    else:
        source = (mask != 0).sum(1)
    logits = model.lengths(states, mask)
    return model.lengths.likeliest(logits, source, beam, longest)[0]


def _given(lengths: Any, batch: int, longest: int) -> Tensor:
    found = torch.as_tensor(lengths)
    if found.ndim == 1:
        found = found.unsqueeze(1)
    whole = not (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool)
    if found.ndim != 2 or len(found) != batch or not found.shape[1] or not whole:
        raise BatchError(
            f"lengths= has the shape {tuple(found.shape)} and type {found.dtype}; it is (B,) or "
            f"(B, C) whole numbers for a batch of {batch}."
        )
    wrong = ((found < 1) | (found > longest)).nonzero()
    if len(wrong):
        row = int(wrong[0, 0])
        raise BatchError(
            f"Sample {row}: lengths= gives {int(found[row, wrong[0, 1]])} words; a target has from "
            f"1 to {longest} of them (max_length=, and what the model has positions for)."
        )
    return found.to(torch.int64)


def _checked(
    model: ConditionalMaskedLM, input_ids: Tensor, attention_mask: Tensor | None
) -> Tensor | None:
    """The mask of the sources; None where there is no padding."""
    if input_ids.ndim != 2 or not input_ids.numel():
        raise BatchError(
            f"input_ids of mask_predict are (B, S) sources, got the shape "
            f"{tuple(input_ids.shape)}; a source has at least one token."
        )
    positions = longest_of(model.model)[0]
    if positions is not None and input_ids.shape[1] > positions:
        raise BatchError(
            f"The sources have {input_ids.shape[1]} tokens, and the model has positions for "
            f"{positions}. Cut them: tokenizer(…, truncation=True, max_length={positions})."
        )
    if attention_mask is None:
        return None
    if attention_mask.shape != input_ids.shape:
        raise BatchError(
            f"attention_mask has the shape {tuple(attention_mask.shape)}, input_ids "
            f"{tuple(input_ids.shape)}; they are alike."
        )
    real = attention_mask != 0
    empty = (~real.any(1)).nonzero()
    if len(empty):
        raise BatchError(
            f"Sample {int(empty[0])}: its source is all padding, so there is nothing to write a "
            "target from. Leave it out."
        )
    return None if bool(real.all()) else attention_mask


def _longest(model: ConditionalMaskedLM, asked: int | None) -> int:
    """Words of the longest target."""
    positions = longest_of(model.model)[1]
    limit = (1 << 30) if positions is None else positions - model.form.frame
    return limit if asked is None else min(limit, _count("max_length", asked))


def _passes(number: int, remask: Remask, repeats: Repeats, stop: bool) -> Passes:
    for name, value, known in (("remask", remask, Remask), ("repeats", repeats, Repeats)):
        if value not in get_args(known):
            raise ConfigError(
                f"{name}={value!r} of mask_predict: one of {', '.join(map(repr, get_args(known)))}."
            )
    return Passes(_count("passes", number), remask, repeats, stop)


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name}={value!r} of mask_predict: it is a whole number, 1 or more.")
    return value
