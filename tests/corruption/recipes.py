"""Every recipe of the library, built on a vocabulary that has all that they need."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from maskwright import Ragged, TokenBatch, Vocabulary, recipe
from maskwright.corruption import RECIPES
from maskwright.corruption.emit import MaskedBatch
from maskwright.corruption.phrases import Phrases, learn_phrases
from tests.core.tokenizers import bert_names
from tests.strategies import token_batches

NAMES = tuple(RECIPES)
PAD, UNK, CLS, SEP, MASK, PRE, SUF, MID = range(8)
ENDS = (8, 9)
FIRST = 10  # the first ordinary token


def vocabulary(size: int = 1000, sentinels: int = 600) -> Vocabulary:
    """Eight special ids, two that end a sentence, words of one to three tokens, two unused ids,
    sentinels at the end."""
    begins = np.arange(size) % 3 != 0
    return Vocabulary(
        size,
        mask_id=MASK,
        pad_id=PAD,
        special_ids=tuple(range(8)),
        sentinel_ids=tuple(range(size - sentinels, size)),
        unused_ids=(size - sentinels - 2, size - sentinels - 1),
        name="recipes",
        word_start=begins,
    )


VOCABULARY = vocabulary()
# Each token is a word, so that lengths in words are lengths in tokens.
SINGLE = Vocabulary(
    1000, mask_id=MASK, pad_id=PAD, special_ids=tuple(range(8)), name="single",
    sentinel_ids=VOCABULARY.sentinel_ids, word_start=np.ones(1000, np.bool_),
)  # fmt: skip
ORDINARY = np.arange(FIRST, 398)


@cache
def phrases(size: int = 1000) -> Phrases:
    """Pairs and triples of neighbouring ids, as the words of `vocabulary` cut them."""
    rows = [range(first, first + 6) for first in range(FIRST, 390, 6) for _ in range(10)]
    known = vocabulary(size, 600)
    return learn_phrases(Ragged.from_lists(rows), known, min_count=10)


def ingredients(name: str, size: int = 1000) -> dict[str, Any]:
    """What a recipe cannot find in a `Vocabulary`."""
    return {
        "pmi": lambda: {"phrases": phrases(size)},
        "bart": lambda: {"ends": ENDS},
        "fim": lambda: {"prefix_id": PRE, "suffix_id": SUF, "middle_id": MID},
        "word-dropout": lambda: {"start_id": CLS},
    }.get(name, dict)()


def build(name: str, known: Vocabulary = VOCABULARY, **changes: Any) -> Any:
    """The recipe, bound."""
    return recipe(name, known, **ingredients(name, known.size), **changes)


def batches(*, min_rows: int = 0) -> st.SearchStrategy[TokenBatch]:
    """Ragged batches with samples that are all different, half of them of ordinary tokens only.

    Most have scores, of some tokens or of all, which the guided recipes go by.
    """

    def distinct(batch: TokenBatch, clean: bool, known: float | None) -> TokenBatch:
        ids = batch.sample_ids // 8 * 8 + np.arange(len(batch))
        scores = None if known is None else scores_of(batch, known)
        if not clean:
            return TokenBatch(batch.tokens, ids, protected=batch.protected, scores=scores)
        values = batch.tokens.values
        special = ~VOCABULARY.maskable[values]
        ordinary = np.where(special, FIRST + values % 380, values)
        return TokenBatch(batch.tokens.like(ordinary.astype(values.dtype)), ids, scores=scores)

    known = st.sampled_from([None, 0.0, 0.7, 1.0])
    return st.builds(distinct, token_batches(VOCABULARY, min_rows=min_rows), st.booleans(), known)


def scores_of(batch: TokenBatch, known: float = 1.0) -> Ragged:
    """Scores of about a share ``known`` of the tokens, zeros and equal ones among them."""
    values = batch.tokens.values
    rng = np.random.default_rng(len(values))
    scores = (rng.integers(0, 9, len(values)) / 8).astype(np.float32)
    scores[rng.random(len(values)) >= known] = np.nan
    return batch.tokens.like(scores)


def text(rows: int, length: int, *, seed: int = 0, specials: bool = True) -> TokenBatch:
    """Random ordinary tokens between CLS and SEP, ``length`` of them in each sample."""
    body = np.random.default_rng(seed).choice(ORDINARY, (rows, length))
    if specials:
        body = np.hstack([np.full((rows, 1), CLS), body, np.full((rows, 1), SEP)])
    width = body.shape[1]
    return TokenBatch(Ragged(body.ravel(), np.arange(rows + 1) * width), np.arange(rows))


def sample_views(masked: MaskedBatch) -> list[dict[str, Any]]:
    """What each sample became, without padding."""
    views = []
    aligned = masked.input_ids.shape == masked.labels.shape
    for row in range(len(masked.input_ids)):
        real = masked.attention_mask[row].bool()
        labels = masked.labels[row]
        # labels of an encoder-decoder are padded on the right, and none of them is -100
        kept = labels != -100 if _apart(masked) or not aligned else real
        view = {
            "input_ids": masked.input_ids[row][real].tolist(),
            "labels": labels[kept].tolist(),
            "weights": masked.loss_weights[row][kept].tolist(),
            "origin": masked.origin[row][real].tolist(),
        }
        for name, tensor in masked.others.items():
            view[name] = tensor[row][real].tolist()
        if masked.prefix_lengths is not None:
            view["prefix"] = int(masked.prefix_lengths[row])
        views.append(view)
    return views


def _apart(masked: MaskedBatch) -> bool:
    return str(masked.plan.masking.emit).startswith("seq2seq")


@cache
def tokenizer() -> Any:
    """A tokenizer with everything a recipe looks for: BERT's five, sentence ends, the marks of
    fill-in-the-middle, words in pieces (``##``), 30 sentinels."""
    marks = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *marks, ".", "?"]
    names += [f"w{i}" if i % 3 else f"##w{i}" for i in range(len(names), 100)]
    names += [f"<extra_id_{i}>" for i in range(30)]
    model = models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]")
    made = Tokenizer(model)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast = PreTrainedTokenizerFast(tokenizer_object=made, **bert_names())
    fast.add_special_tokens({"additional_special_tokens": [*marks, *names[100:]]})
    return fast
