"""Small tokenizers of each family, trained here: no network, no files."""

from __future__ import annotations

from functools import cache
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXT = [
    "the quick brown fox jumps over the lazy dog",
    "a mask hides some of the words and the model must guess what they were",
    "words that are long are cut in pieces: unbelievable, reproducibility, accumulation",
] * 4
BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def bert_names(**others: Any) -> dict[str, Any]:
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), BERT_SPECIALS, strict=True))
    return {f"{role}_token": token for role, token in names.items()} | others


@cache
def wordpiece() -> Any:
    """BERT's: ``##`` continues a word; two [unusedN] rows."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    first = ["[PAD]", "[unused0]", "[unused1]", *BERT_SPECIALS[1:]]
    trainer = trainers.WordPieceTrainer(vocab_size=160, special_tokens=first, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **bert_names())


@cache
def byte_level() -> Any:
    """RoBERTa's: byte-level BPE with ``<mask>``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
        cls_token="<s>", sep_token="</s>", padding_side="left",
    )  # fmt: skip
    fast.add_special_tokens({"mask_token": AddedToken("<mask>", lstrip=True, special=True)})
    return fast


@cache
def unigram() -> Any:
    """T5's: Unigram pieces with ``▁``, sentinels whose ids fall as their numbers rise, no mask."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    sentinels = [f"<extra_id_{i}>" for i in range(11, -1, -1)]
    tokenizer.add_special_tokens(sentinels)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


@cache
def words(size: int = 100) -> Any:
    """One token a word: ``w5`` … after BERT's five; each id is known beforehand."""
    ids = {token: i for i, token in enumerate(BERT_SPECIALS)}
    ids |= {f"w{i}": i for i in range(len(ids), size)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **bert_names())


def with_holes() -> Any:
    """Ids 0–4, then nothing, then 9 and 12."""
    ids = {token: i for i, token in enumerate(BERT_SPECIALS)} | {"nine": 9, "twelve": 12}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **bert_names())
