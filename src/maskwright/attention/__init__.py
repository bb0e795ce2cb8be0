"""Attention masks: who may look at whom, as one readable expression that every backend runs."""

from maskwright.attention.attend import attend
from maskwright.attention.axis import Axis
from maskwright.attention.blocks import EMPTY, FULL, PARTIAL, BlockMap
from maskwright.attention.parse import parse
from maskwright.attention.pattern import Pattern, full, nothing, per_head
from maskwright.attention.pictures.explanation import Explanation, explain
from maskwright.attention.rules.alignment import aligned
from maskwright.attention.rules.chunks import blockwise, chunked
from maskwright.attention.rules.compositions import bigbird, longformer, streaming_sink
from maskwright.attention.rules.diagonal import monotonic_window
from maskwright.attention.rules.global_tokens import global_tokens
from maskwright.attention.rules.objectives import block_diffusion, permutation, prefix, two_stream
from maskwright.attention.rules.random_blocks import random_blocks
from maskwright.attention.rules.relative import causal, window
from maskwright.attention.rules.scores import threshold, top_k
from maskwright.attention.rules.sparse import dilated, strided, summaries
from maskwright.attention.rules.streaming import chunked_streaming, wait_k
from maskwright.attention.rules.tokens import documents, marked, padding, same
from maskwright.attention.rules.visible import copy_only, segments, visible
from maskwright.attention.serialise import from_json, to_json

__all__ = [
    "Axis",
    "BlockMap",
    "EMPTY",
    "Explanation",
    "FULL",
    "PARTIAL",
    "Pattern",
    "aligned",
    "attend",
    "bigbird",
    "block_diffusion",
    "blockwise",
    "causal",
    "chunked",
    "chunked_streaming",
    "copy_only",
    "dilated",
    "documents",
    "explain",
    "from_json",
    "full",
    "global_tokens",
    "longformer",
    "marked",
    "monotonic_window",
    "nothing",
    "padding",
    "parse",
    "per_head",
    "permutation",
    "prefix",
    "random_blocks",
    "same",
    "segments",
    "streaming_sink",
    "strided",
    "summaries",
    "threshold",
    "to_json",
    "top_k",
    "two_stream",
    "visible",
    "wait_k",
    "window",
]
