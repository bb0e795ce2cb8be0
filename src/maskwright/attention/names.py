"""Every name that the source of a pattern may use, and what it builds: the whole library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from maskwright.attention.pattern import Named, Pattern, full, nothing, per_head
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

NAMES: Mapping[str, Named | Callable[..., Pattern]] = MappingProxyType(
    {
        # everyone, no one, each head for itself
        "full": full,
        "nothing": nothing,
        "per_head": per_head,
        # distance
        "causal": causal,
        "window": window,
        "dilated": dilated,
        "strided": strided,
        "summaries": summaries,
        "chunked": chunked,
        "blockwise": blockwise,
        # what the tokens are
        "padding": padding,
        "documents": documents,
        "segments": segments,
        "same": same,
        "marked": marked,
        "global_tokens": global_tokens,
        # objectives
        "prefix": prefix,
        "permutation": permutation,
        "two_stream": two_stream,
        "block_diffusion": block_diffusion,
        # from target to source
        "wait_k": wait_k,
        "chunked_streaming": chunked_streaming,
        "monotonic_window": monotonic_window,
        "aligned": aligned,
        "copy_only": copy_only,
        # chance, matrices, scores
        "random_blocks": random_blocks,
        "visible": visible,
        "threshold": threshold,
        "top_k": top_k,
        # published compositions
        "longformer": longformer,
        "bigbird": bigbird,
        "streaming_sink": streaming_sink,
    }
)
