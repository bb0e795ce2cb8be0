"""train_bpe: a small byte-level BPE tokenizer for a corpus, the same every time.

Its alphabet is the bytes that occur in the documents, so that a small vocabulary is spent on
merges and has no id that is never seen in training; a byte that never occurred becomes [UNK].
From a vocabulary of 2,048 on, all 256 bytes are in it and every text survives a round trip.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.data.cache import cache_root, place_folder
from maskwright.errors import CacheError, ConfigError, DataError, MissingExtra

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
FULL_ALPHABET_FROM = 2_048
_RECIPE = 1  # raised whenever the same documents would give another tokenizer


def train_bpe(
    documents: Iterable[str],
    vocabulary_size: int,
    *,
    max_length: int = 512,
    cache_dir: str | Path | None = None,
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE, or load the one trained on these documents before.

    Samples are ``[CLS] … [SEP]``; decoding gives the text back unchanged.

    Args:
        documents: the training split only.
        vocabulary_size: entries in all, special tokens included. Fewer are made when the
            documents have no more pairs to merge.
        max_length: what ``tokenizer.model_max_length`` says; nothing is cut by it here.
        cache_dir: instead of ``$MASKWRIGHT_CACHE`` or ``~/.cache/maskwright``.

    Raises:
        ConfigError: the vocabulary cannot hold the special tokens and the alphabet.
        DataError: there are no documents, or none with any text.
        CacheError: the cached tokenizer is damaged.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise MissingExtra("transformers", "hf") from None
    documents = list(documents)
    if not any(documents):
        raise DataError(
            f"A tokenizer cannot be trained on {len(documents)} documents without any text. "
            "Give the documents of a training split."
        )
    folder = cache_root(cache_dir) / "tokenizers" / _key(documents, vocabulary_size, max_length)
    if not folder.is_dir():
        trained = _train(documents, vocabulary_size, max_length)
        place_folder(folder, lambda target: _save(trained, target))
    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # tokenizers raises bare Exception for a damaged file
        raise CacheError(
            f"The cached tokenizer {folder} cannot be loaded ({error}). Delete that folder; it "
            "is trained again when it is next needed."
        ) from error


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """A hash of all that decides which ids a text gets, 64 hex digits.

    The same tokenizer saved and loaded again has the same fingerprint; its padding and
    truncation settings, which calls change, and its folder do not count.
    """
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    if getattr(tokenizer, "is_fast", False):
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        content["truncation"] = content["padding"] = None
    else:
        content = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    text = json.dumps([content, special], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _key(documents: list[str], vocabulary_size: int, max_length: int) -> str:
    digest = hashlib.sha256(f"{_RECIPE} {vocabulary_size} {max_length}".encode())
    for document in documents:
        data = document.encode()
        digest.update(len(data).to_bytes(8, "little"))  # so that document borders count
        digest.update(data)
    return digest.hexdigest()[:32]


def _train(documents: list[str], vocabulary_size: int, max_length: int) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    if vocabulary_size >= FULL_ALPHABET_FROM:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    else:
        occurring = sorted(set().union(*(set(document.encode()) for document in documents)))
        alphabet = [_byte_characters()[byte] for byte in occurring]
    if len(SPECIAL_TOKENS) + len(alphabet) > vocabulary_size:
        raise ConfigError(
            f"A vocabulary of {vocabulary_size} cannot hold {len(SPECIAL_TOKENS)} special tokens "
            f"and the {len(alphabet)} bytes that occur in the documents. Ask for at least "
            f"{len(SPECIAL_TOKENS) + len(alphabet)}; 512 is a good small size."
        )
    backend = Tokenizer(models.BPE(unk_token="[UNK]", fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    backend.train_from_iterator(documents, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, SPECIAL_TOKENS.index(name)) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


def _save(tokenizer: Any, folder: Path) -> None:
    tokenizer.save_pretrained(folder)


def _byte_characters() -> dict[int, str]:
    """Byte → the printable character that byte-level BPE writes for it (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {byte: chr(byte) for byte in printable}
    others = (byte for byte in range(256) if byte not in table)
    return table | {byte: chr(256 + number) for number, byte in enumerate(others)}
