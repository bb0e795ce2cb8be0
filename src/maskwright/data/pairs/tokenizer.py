"""train_pair_tokenizer: one BPE vocabulary for both languages, the same every time.

Pieces are of whole characters, with ``▁`` where a space was. A byte-level vocabulary would spend
two tokens on each ``ñ`` that it has not merged, and a model that guesses masked tokens at once, one
by one, could then write half of it. What never occurred in training becomes ``<unk>``.

A word, a digit, an English ``'s`` and a run of other characters are pieces of their own, so
``casa``, ``casa.`` and ``¿casa`` share a token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from maskwright.data.cache import cache_root, place_folder
from maskwright.data.pairs.pair import Pair, fingerprint
from maskwright.errors import CacheError, ConfigError, DataError, MissingExtra

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# In the order that BartConfig expects: bos 0, pad 1, eos 2.
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_PIECE = r"▁?\p{L}[\p{L}\p{M}]*|'\p{L}+|▁?\p{N}|▁?[^▁\p{L}\p{N}]+|▁"
_RECIPE = 1  # raised whenever the same pairs would give another tokenizer


def train_pair_tokenizer(
    pairs: Iterable[Pair],
    size: int = 8_000,
    *,
    max_length: int = 512,
    cache_dir: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> PreTrainedTokenizerFast:
    """Train a joint BPE on both sides, or load the one trained on these pairs before.

    A text gets ``… </s>``. Text is brought to NFC and runs of white space become one space;
    otherwise ``tokenizer.decode(ids, skip_special_tokens=True)`` gives it back. ``<s>`` is there
    for models that begin with it; no text gets it.

    Args:
        pairs: the training part only.
        size: entries in all, special tokens included. Fewer are made when there is no more to
            merge.
        max_length: what ``tokenizer.model_max_length`` says; nothing is cut by it here.
        cache_dir: instead of ``$MASKWRIGHT_CACHE`` or ``~/.cache/maskwright``.
        say: called with a line before training, which takes seconds.

    Raises:
        ConfigError: the vocabulary cannot hold the special tokens and the characters.
        DataError: there are no pairs.
        CacheError: the cached tokenizer is damaged.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise MissingExtra("transformers", "hf") from None
    rows = tuple(pairs)
    if not rows:
        raise DataError("A tokenizer cannot be trained on no pairs. Give those of a training part.")
    content = f"pairs {_RECIPE} {size} {max_length} {fingerprint(rows)}"
    folder = (
        cache_root(cache_dir) / "tokenizers" / hashlib.sha256(content.encode()).hexdigest()[:32]
    )
    if not folder.is_dir():
        say(f"Training a tokenizer of {size:,} entries on {len(rows):,} pairs")
        trained = _train(rows, size, max_length)
        place_folder(folder, lambda target: _save(trained, target))
    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # tokenizers raises bare Exception for a damaged file
        raise CacheError(
            f"The cached tokenizer {folder} cannot be loaded ({error}). Delete that folder; it "
            "is trained again when it is next needed."
        ) from error


def _save(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    tokenizer.save_pretrained(folder)


def _train(pairs: tuple[Pair, ...], size: int, max_length: int) -> PreTrainedTokenizerFast:
    from tokenizers import (
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always", split=False),
            pre_tokenizers.Split(Regex(_PIECE), "isolated"),
        ]
    )
    backend.decoder = decoders.Metaspace(prepend_scheme="always", split=False)
    # each text once: a source with ten translations says no more of its language than another
    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.source, pair.target)))
    characters = {"▁"}.union(*(backend.normalizer.normalize_str(text) for text in texts)) - {" "}
    if len(SPECIAL_TOKENS) + len(characters) > size:
        raise ConfigError(
            f"A vocabulary of {size:,} cannot hold {len(SPECIAL_TOKENS)} special tokens and the "
            f"{len(characters)} characters that occur in the pairs. Ask for at least "
            f"{len(SPECIAL_TOKENS) + len(characters)}; 8,000 is usual."
        )
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(characters),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    end = SPECIAL_TOKENS.index("</s>")
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B:1 </s>:1", special_tokens=[("</s>", end)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
