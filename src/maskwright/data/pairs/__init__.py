"""Pairs of sentences, for translation: read, divided, and as tables of ids."""

from maskwright.data.pairs.cached import cached_pair_table
from maskwright.data.pairs.pair import BadLine, Pair, Pairs
from maskwright.data.pairs.read import read_pairs
from maskwright.data.pairs.split import PairSplit, Part, split_by_source
from maskwright.data.pairs.table import PairTable
from maskwright.data.pairs.tokenizer import train_pair_tokenizer
from maskwright.data.pairs.write import write_pair_table

__all__ = [
    "BadLine",
    "Pair",
    "PairSplit",
    "PairTable",
    "Pairs",
    "Part",
    "cached_pair_table",
    "read_pairs",
    "split_by_source",
    "train_pair_tokenizer",
    "write_pair_table",
]
