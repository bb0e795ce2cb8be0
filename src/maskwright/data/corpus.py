"""build_table: tokenise documents and cut them into the samples of a TokenTable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.data.table import TokenTable
from maskwright.data.table_writer import TableWriter
from maskwright.data.tokenizer import tokenizer_fingerprint
from maskwright.data.words import token_word_starts
from maskwright.errors import ConfigError, DataError
from maskwright.ragged import offsets_of
from maskwright.vocabulary import Vocabulary

# Python lists of ids and spans take some 100 bytes a token: this bounds them to about 50 MB.
_BATCH_CHARACTERS = 1_000_000

Progress = Callable[[int, int], None]


def build_table(
    documents: Iterable[str],
    tokenizer: Any,
    *,
    max_length: int,
    path: str | Path,
    split: str,
    corpus_fingerprint: str = "",
    progress: Progress | None = None,
) -> TokenTable:
    """Tokenise ``documents`` and write their samples to the table ``path`` (``NAME.arrow``).

    Each document is cut into pieces of equal greatest length, and the special tokens that the
    tokenizer puts round a text (``[CLS] … [SEP]``, or none) are put round each piece. A sample
    never spans two documents. The last piece of a document is kept however short it is, so no
    text is lost. Word starts come from character offsets; a tokenizer without them (a slow
    one) gives a table without word starts, which is no error.

    Args:
        documents: the texts of one split.
        tokenizer: a Hugging Face tokenizer.
        max_length: tokens in a sample at most, special tokens included.
        split: its name, kept in ``table.meta``.
        progress: called with (documents done, tokens done) after each batch.

    Raises:
        ConfigError: ``max_length`` leaves no room beside the special tokens.
        DataError: the documents hold no token at all.
        SaveError: the table cannot be written.
    """
    meta = {
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "corpus": corpus_fingerprint,
        "max_length": max_length,
        "split": split,
    }
    with TableWriter(
        path,
        vocabulary_size=Vocabulary.from_tokenizer(tokenizer).size,
        meta=meta,
        word_starts=knows_words(tokenizer),
    ) as writer:
        done = add_documents(writer, documents, tokenizer, max_length=max_length, progress=progress)
        if writer.samples == 0:
            raise DataError(
                f"The {done} documents of split {split!r} hold no token: there is nothing to "
                "mask in special tokens alone. Check the text column and the tokenizer."
            )
    return writer.table


def knows_words(tokenizer: Any) -> bool:
    """Whether it says which characters a token came from, so that word starts are known."""
    return bool(getattr(tokenizer, "is_fast", False))


def add_documents(
    writer: TableWriter,
    documents: Iterable[str],
    tokenizer: Any,
    *,
    max_length: int,
    progress: Progress | None = None,
) -> int:
    """Adds the samples of ``documents``, as `build_table` cuts them; how many documents they were.

    Args:
        writer: made with ``word_starts`` exactly where `knows_words` says so.
    """
    with_words = knows_words(tokenizer)
    prefix, suffix = special_affixes(tokenizer)
    room = room_for_text(tokenizer, max_length)
    # an unknown word is a word, though its id is special
    ids_of = Vocabulary.from_tokenizer(tokenizer).special_ids
    special = np.array([i for i in ids_of if i != tokenizer.unk_token_id])
    done = 0
    for texts in _batches(documents):
        ids, counts, starts = _tokenise(tokenizer, texts, with_words)
        if starts is not None:
            # special tokens written out in the text are ids, but not words
            starts[np.isin(ids, special)] = 0
        numbers, lengths, sources = _cut(counts, room, first_document=done)
        tokens = _wrap(ids, lengths, sources, prefix, suffix)
        if starts is not None:
            blank = [0] * len(prefix), [0] * len(suffix)
            starts = _wrap(starts, lengths, sources, *blank)
        whole = lengths + len(prefix) + len(suffix)
        writer.add(tokens, whole, documents=numbers, word_starts=starts)
        done += len(texts)
        if progress is not None:
            progress(done, writer.tokens)
    return done


def room_for_text(tokenizer: Any, max_length: int) -> int:
    """How many tokens of text a sample has room for; a `ConfigError` if none."""
    special = sum(map(len, special_affixes(tokenizer)))
    if max_length <= special:
        raise ConfigError(
            f"max_length={max_length} leaves no room beside the {special} special tokens of this "
            f"tokenizer. Use at least {special + 1}; 128 to 512 is usual."
        )
    return max_length - special


def special_affixes(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before and after a single text.

    Found by encoding a text with and without them, which holds for every tokenizer; fast
    ones no longer have ``build_inputs_with_special_tokens`` in transformers 5.
    """
    for probe in ("a", "the", "1", "."):
        bare = tokenizer(probe, add_special_tokens=False)["input_ids"]
        whole = tokenizer(probe, add_special_tokens=True)["input_ids"]
        for start in range(len(whole) - len(bare) + 1 if bare else 0):
            if whole[start : start + len(bare)] == bare:
                return whole[:start], whole[start + len(bare) :]
    raise DataError(
        "This tokenizer gives no token for any of 'a', 'the', '1' and '.', with special tokens "
        "only added round them. Check that it was loaded from the right folder."
    )


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    batch, size = [], 0
    for document in documents:
        batch.append(document)
        size += len(document)
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _tokenise(
    tokenizer: Any, texts: list[str], with_words: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Ids ``(N,)``, tokens of each text ``(B,)``, and word starts ``(N,)`` or None."""
    encoded = tokenizer(
        texts,
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        return_offsets_mapping=with_words,
        truncation=False,
        padding=False,
        verbose=False,  # no warning that a document is longer than the model: it is cut below
    )
    rows = encoded["input_ids"]
    counts = np.fromiter(map(len, rows), np.int64, len(rows))
    ids = np.fromiter(chain.from_iterable(rows), np.int64, int(counts.sum()))
    if not with_words:
        return ids, counts, None
    starts = [
        token_word_starts(
            text,
            np.fromiter(chain.from_iterable(spans), np.int64, 2 * len(spans)).reshape(-1, 2),
        )
        for text, spans in zip(texts, encoded["offset_mapping"], strict=True)
    ]
    return ids, counts, np.concatenate(starts)


def _cut(
    counts: np.ndarray, room: int, first_document: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each sample: its document number, its tokens, and where they begin in the batch."""
    pieces = -(-counts // room)
    document = np.repeat(np.arange(len(counts)), pieces)
    number = np.arange(len(document)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    lengths = np.minimum(counts[document] - number * room, room)
    sources = offsets_of(counts)[document] + number * room
    return document + first_document, lengths, sources


def _wrap(
    values: np.ndarray,
    lengths: np.ndarray,
    sources: np.ndarray,
    prefix: list[int],
    suffix: list[int],
) -> np.ndarray:
    """The samples end to end, each with ``prefix`` before and ``suffix`` after it."""
    starts = offsets_of(lengths + len(prefix) + len(suffix))
    out = np.empty(starts[-1], values.dtype)
    for place, value in enumerate(prefix):
        out[starts[:-1] + place] = value
    for place, value in enumerate(reversed(suffix)):
        out[starts[1:] - 1 - place] = value
    inner = starts[:-1] + len(prefix)
    body = np.arange(int(lengths.sum())) - np.repeat(offsets_of(lengths)[:-1], lengths)
    out[body + np.repeat(inner, lengths)] = values[body + np.repeat(sources, lengths)]
    return out
