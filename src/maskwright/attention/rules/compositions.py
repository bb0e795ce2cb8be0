"""Published patterns, written in the rules of this library: each is a readable expression."""

from __future__ import annotations

from maskwright.attention.pattern import Pattern
from maskwright.attention.rules.chunks import blockwise
from maskwright.attention.rules.global_tokens import global_tokens
from maskwright.attention.rules.random_blocks import random_blocks
from maskwright.attention.rules.relative import causal, check_count, window
from maskwright.attention.rules.sparse import dilated


def longformer(width: int, *tokens: int | str, dilation: int = 1) -> Pattern:
    """A window around each token, and a few global tokens.

    Args:
        width: keys on each side of the query, which is seen too: ``attention_window // 2`` of a
            Hugging Face configuration.
        tokens: of `global_tokens`: positions, or the name of a channel that marks them.
        dilation: with more than 1, the window has gaps, as of `dilated`.

    Raises:
        PatternError: as of `window`, `dilated` and `global_tokens`.

    Source: Beltagy, Peters, Cohan, "Longformer", 2020, arXiv:2004.05150.

    >>> print(longformer(256, 0))
    window(256) | global_tokens(0)
    """
    near = window(width) if dilation == 1 else dilated(width, dilation)
    return near | global_tokens(*tokens) if tokens else near


def bigbird(size: int, count: int = 3, seed: int = 0, heads: int | None = None) -> Pattern:
    """Blocks: each with its two neighbours, the first and the last with everyone, some by chance.

    The internal form (BigBird-ITC). Random blocks are drawn from all, so some fall on blocks that
    are seen anyway; the authors' code draws from the others.

    Args:
        size: tokens of a block, 1 or more.
        count, seed, heads: of `random_blocks`.

    Raises:
        PatternError: as of `blockwise` and `random_blocks`.
        AxisError: (where the pattern meets axes) one has positions of its own.

    Source: Zaheer et al., "Big Bird", 2020, arXiv:2007.14062, section 2 and appendix D.

    >>> print(bigbird(64))
    blockwise(64, 1, 1) | global_tokens(0, -1, size=64) | random_blocks(3, 64)
    """
    return (
        blockwise(size, 1, 1)
        | global_tokens(0, -1, size=size)
        | random_blocks(count, size, seed, heads)
    )


def streaming_sink(sinks: int, width: int) -> Pattern:
    """The first keys and the latest ones, causally: generation without end in a bounded cache.

    Args:
        sinks: how many of the first keys every query sees; with 0, there are none.
        width: positions before the query that it sees, and its own: the paper's cache of R recent
            tokens is ``width = R - 1``. Positions are those of the text; the paper's renumbering
            inside the cache is the model's business.

    Raises:
        PatternError: a negative number.

    Source: Xiao et al., "Efficient Streaming Language Models with Attention Sinks", 2023,
    arXiv:2309.17453.

    >>> print(streaming_sink(4, 1023))
    causal & (global_tokens(0, 1, 2, 3, side="kv") | window(1023, 0))
    """
    check_count("streaming_sink", "sinks", sinks)
    recent = window(width, 0)
    return causal & (global_tokens(*range(sinks), side="kv") | recent if sinks else recent)
