"""Small sources, and what a preparation of them is compared with."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from maskwright.data.prepare import PhraseSettings, Settings, Source
from tests.lab.tiny import sentences

# 24 documents of different lengths, of which 3 are doubles and 2 are empty
TEXTS = [
    *(" ".join(sentences(1, 5 + 9 * (row % 4), row)) for row in range(12)),
    "", " \n\t ",
    *sentences(5, 30, 100),
    *(f" {text}\n" for text in sentences(3, 30, 100)),
    *sentences(2, 400, 200),
]  # fmt: skip
KEPT = [text for text in TEXTS[:19] if text.strip()] + TEXTS[22:]

# pieces of a few documents, shards of a few pieces
SMALL = Settings(max_length=24, shard_tokens=400, piece_bytes=700)
WITH_PHRASES = Settings(
    max_length=24, shard_tokens=400, piece_bytes=700,
    phrases=PhraseSettings(longest=3, size=50, min_count=3),
)  # fmt: skip


def write_source(folder: Path, texts: list[str] | None = None) -> Source:
    path = folder / "texts.jsonl"
    rows = [json.dumps({"text": text}) for text in (TEXTS if texts is None else texts)]
    path.write_text("\n".join(rows) + "\n")
    return Source(str(path))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@lru_cache(maxsize=1)
def small_tokenizer() -> Any:
    """Words of one or a few tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    from tests.lab.tiny import WORDS

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set("".join(WORDS)))]
    names += [f"##{name}" for name in names[5:]] + [*"0123456789."]
    names += [f"##{digit}" for digit in range(10)] + ["peace", "nation", "the", "of", "power"]
    vocabulary = {name: number for number, name in enumerate(names)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]", model_max_length=64,
    )  # fmt: skip
