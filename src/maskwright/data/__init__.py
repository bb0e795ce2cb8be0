"""The data room: from a name or a path to a memory-mapped table of samples."""

from maskwright.data.corpus import build_table
from maskwright.data.packages import PACKAGED, Packaged, fetch
from maskwright.data.sharded_table import ShardedTable
from maskwright.data.sources import Corpus, load_corpus
from maskwright.data.table import TokenTable
from maskwright.data.table_cache import cached_table
from maskwright.data.table_writer import TableWriter
from maskwright.data.tokenizer import tokenizer_fingerprint, train_bpe

__all__ = [
    "PACKAGED",
    "Corpus",
    "Packaged",
    "ShardedTable",
    "TableWriter",
    "TokenTable",
    "build_table",
    "cached_table",
    "fetch",
    "load_corpus",
    "tokenizer_fingerprint",
    "train_bpe",
]
