"""The text of an experiment: read and tokenised here, or prepared before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskwright.data.prepare.corpus import PreparedCorpus, is_prepared
from maskwright.data.sources import Corpus, load_corpus
from maskwright.data.table import TokenTable
from maskwright.data.table_cache import cached_table
from maskwright.data.tokenizer import tokenizer_fingerprint, train_bpe
from maskwright.errors import ConfigError, DataError
from maskwright.lab.config import Data
from maskwright.lab.model import first_line, resolve

AnyCorpus = Corpus | PreparedCorpus


def corpus_of(data: Data) -> AnyCorpus:
    """The text that the settings name: a source of `load_corpus`, or a folder of `maskwright
    prepare`.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    if is_prepared(data.source):
        return PreparedCorpus.open(data.source)
    return load_corpus(data.source, text_column=data.text_column)


def tokenizer_of(data: Data, corpus: AnyCorpus) -> Any:
    """The tokenizer of an experiment: the one of a prepared folder, the one that the settings name,
    or a BPE trained on the training split.

    Raises:
        ConfigError: the settings name another one than the text was prepared with.
    """
    named = None if data.tokenizer is None else read_tokenizer(resolve(data.tokenizer))
    if isinstance(corpus, PreparedCorpus):
        own = read_tokenizer(corpus.tokenizer)
        if named is not None and tokenizer_fingerprint(named) != tokenizer_fingerprint(own):
            raise ConfigError(
                f"data.tokenizer={data.tokenizer} is not the tokenizer that {corpus.name} was "
                "prepared with. Leave data.tokenizer out, or prepare the text with it: "
                f"maskwright prepare … --tokenizer {data.tokenizer}"
            )
        return own
    if named is not None:
        return named
    return train_bpe(corpus.documents("train"), data.vocabulary_size, max_length=data.max_length)


def table_of(
    corpus: AnyCorpus, split: str, tokenizer: Any, *, max_length: int, progress: bool = True
) -> TokenTable:
    """The token table of a split, from the cache if it was made before."""
    if isinstance(corpus, PreparedCorpus):
        return corpus.table(split, tokenizer, max_length=max_length, progress=progress)
    return cached_table(corpus, split, tokenizer, max_length=max_length, progress=progress)


def read_tokenizer(place: str | Path) -> Any:
    """The tokenizer in a folder or on the Hub.

    Raises:
        DataError: there is none, or it is damaged.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(place)
    except Exception as error:  # tokenizers raises bare Exception for a damaged file
        raise DataError(f"No tokenizer can be loaded from {place}: {first_line(error)}") from None
