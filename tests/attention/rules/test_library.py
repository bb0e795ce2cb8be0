"""Every rule of the library on a few tokens, written out by hand."""

from __future__ import annotations

import pytest
import torch

import maskwright.attention as library
from maskwright.attention import (
    Axis,
    Pattern,
    bigbird,
    block_diffusion,
    blockwise,
    causal,
    chunked,
    dilated,
    documents,
    full,
    global_tokens,
    longformer,
    marked,
    nothing,
    padding,
    per_head,
    permutation,
    prefix,
    random_blocks,
    same,
    streaming_sink,
    strided,
    summaries,
    two_stream,
    window,
)
from maskwright.errors import AxisError, PatternError
from tests.attention.matrices import shown

PLAIN = [
    (full, "1111/1111/1111/1111"),
    (nothing, "0000/0000/0000/0000"),
    (causal, "1000/1100/1110/1111"),
    (window(0), "1000/0100/0010/0001"),
    (window(1), "1100/1110/0111/0011"),
    (window(2, 0), "10000/11000/11100/01110/00111"),
    (window(0, 1), "1100/0110/0011/0001"),
    (window(9), "111/111/111"),
    (dilated(1, 2), "101000/010100/101010/010101/001010/000101"),
    (dilated(2, 2), "101010/010101/101010/010101/101010/010101"),
    (dilated(1, 1), "1100/1110/0111/0011"),
    (dilated(0, 3), "1000/0100/0010/0001"),
    (strided(2), "10101/01010/10101/01010/10101"),
    (strided(3), "100100/010010/001001/100100/010010/001001"),
    (strided(1), "111/111/111"),
    # the strided and the fixed attention of the Sparse Transformer, as its figure 3 draws them
    (causal & (window(2, 0) | strided(2)), "10000/11000/11100/01110/10111"),
    (causal & (chunked(3) | summaries(3)), "100000/110000/111000/001100/001110/001111"),
    (summaries(3), "001001/001001/001001/001001/001001/001001"),
    (summaries(3, 2), "01101/01101/01101/01101/01101"),
    (summaries(2, 0), "000/000/000"),
    (chunked(2), "11000/11000/00110/00110/00001"),
    (chunked(1), "100/010/001"),
    (causal & chunked(3), "10000/11000/11100/00010/00011"),
    (blockwise(2), "11000/11000/00110/00110/00001"),
    (blockwise(2, 1), "11000/11000/11110/11110/00111"),
    (blockwise(2, 0, 1), "11110/11110/00111/00111/00001"),
    (blockwise(2, None), "11000/11000/11110/11110/11111"),
    (blockwise(2, None, None), "111/111/111"),
    (prefix(2), "1100/1100/1100/1100"),
    (prefix(0), "00/00"),
    (causal | prefix(2), "1100/1100/1110/1111"),
    (global_tokens(0), "1111/1000/1000/1000"),
    (global_tokens(1, 2), "0110/1111/1111/0110"),
    (global_tokens(-1), "0001/0001/0001/1111"),
    (global_tokens(-9, 7), "00/00"),
    (global_tokens(0, side="kv"), "1000/1000/1000/1000"),
    (global_tokens(0, 2, side="q"), "1111/0000/1111/0000"),
    (global_tokens(0, -1, size=2), "11111/11111/11001/11001/11111"),
    (longformer(1, 0), "11111/11100/11110/10111/10011"),
    (longformer(1), "1100/1110/0111/0011"),
    (longformer(1, dilation=2), "10100/01010/10101/01010/00101"),
    (streaming_sink(1, 1), "100000/110000/111000/101100/100110/100011"),
    (streaming_sink(0, 1), "1000/1100/0110/0011"),
    (streaming_sink(2, 0), "10000/11000/11100/11010/11001"),
    # noisy copy, then clean copy: own noisy block, clean past; clean past and own clean block
    (
        block_diffusion(2),
        "11000000/11000000/00111100/00111100/00001100/00001100/00001111/00001111",
    ),
    (block_diffusion(1), "100000/010100/001110/000100/000110/000111"),
    (block_diffusion(9), "1100/1100/0011/0011"),
    # n = 3 in blocks of 2: the last block of each copy is cut short
    (block_diffusion(2), "110000/110000/001110/000110/000110/000111"),
    (random_blocks(9, 2), "111/111/111"),
    (random_blocks(0, 2), "000/000/000"),
    (bigbird(1, 0), "11111/11101/11111/10111/11111"),
    (~causal, "011/001/000"),
    (per_head([causal, ~causal, window(0)]), "100/110/111 011/001/000 100/010/001"),
]


@pytest.mark.parametrize("pattern, rows", PLAIN, ids=lambda one: str(one)[:40])
def test_rules_literally(pattern, rows):
    assert shown(pattern, rows.count("/", 0, (rows + " ").index(" ")) + 1) == rows


def test_padding_literally():
    axis = Axis.padded(torch.tensor([[1, 1, 0], [0, 1, 1]]))
    assert shown(padding, axis) == "110/110/110 011/011/011"
    assert shown(padding("q"), axis) == "111/111/000 000/111/111"
    assert shown(padding("both"), axis) == "110/110/000 000/011/011"
    # left padding leaves a causal query at padding with nothing to see
    assert shown(causal & padding, axis) == "100/110/110 000/010/011"
    assert shown(padding("both"), 2) == "11/11"


def test_documents_literally():
    axis = Axis.packed([2, 3])
    assert shown(documents, axis) == "11000/11000/00111/00111/00111"
    assert shown(documents & causal, axis) == "10000/11000/00100/00110/00111"
    assert shown(documents, Axis(3, segments=[[0, 1, 0], [5, 5, 7]])) == (
        "101/010/101 110/110/001"
    )  # fmt: skip
    # question and passage on either side of a cross-attention
    assert shown(documents, Axis(2, segments=[4, 2]), Axis(3, segments=[2, 4, 9])) == "010/100"


def test_channels_literally():
    axis = Axis(3, speaker=[7, 8, 7], mark=[True, False, False])
    assert shown(same("speaker"), axis) == "101/010/101"
    assert shown(same("mark"), axis) == "100/011/011"
    assert shown(marked("mark"), axis) == "100/100/100"
    assert shown(marked("mark", side="q"), axis) == "111/000/000"
    assert shown(marked("mark", side="both"), axis) == "100/000/000"
    assert shown(global_tokens("mark"), axis) == "111/100/100"
    assert shown(global_tokens("mark", 2, side="kv"), axis) == "101/101/101"
    assert shown(causal | prefix("mark"), axis) == "100/110/111"


def test_prefixes_of_their_own():
    """Each sample its prefix, and each document of a packed row."""
    prompts = torch.arange(3) < torch.tensor([[2], [0]])
    assert shown(causal | prefix("prompt"), Axis(3, prompt=prompts)) == (
        "110/110/111 100/110/111"
    )  # fmt: skip
    packed = Axis.packed([3, 2], prompt=torch.tensor([1, 1, 0, 1, 1], dtype=torch.bool))
    assert shown(documents & (causal | prefix("prompt")), packed) == (
        "11000/11000/11100/00011/00011"
    )


def test_permuted_orders_literally():
    order = [2, 0, 1]
    axis = Axis(3, order=order)
    assert shown(permutation, axis) == "111/010/011"
    assert shown(permutation(inclusive=False), axis) == "011/000/010"
    q = Axis(6, order=order * 2, query_stream=[False] * 3 + [True] * 3)
    assert shown(two_stream(), q, axis) == "111/010/011/011/000/010"
    # ties see one another in the content stream only
    assert shown(permutation, Axis(2, order=[0, 0])) == "11/11"
    assert shown(permutation(inclusive=False), Axis(2, order=[0, 0])) == "00/00"


def test_xlnet_streams_as_the_paper_draws_them():
    """Its figure 1: with the order 3, 2, 4, 1, token 1 sees all; token 3 only itself."""
    ranks = [3, 1, 0, 2]
    assert shown(permutation, Axis(4, order=ranks)) == "1111/0110/0010/0111"


def test_block_diffusion_as_the_paper_defines_it():
    """The three parts of the authors' mask, pair by pair."""
    n, size = 7, 3
    found = block_diffusion(size).dense(Axis(2 * n))[0, 0]
    for query in range(2 * n):
        for key in range(2 * n):
            clean_q, clean_k = query >= n, key >= n
            block_q, block_k = query % n // size, key % n // size
            diagonal = block_q == block_k and clean_q == clean_k
            offset = block_q > block_k and clean_k and not clean_q
            causal_ = block_q >= block_k and clean_k and clean_q
            assert found[query, key] == (diagonal or offset or causal_)


def test_sources():
    """How each is written is how it is called."""
    names = {name: getattr(library, name) for name in library.__all__}
    written = [pattern for pattern, _ in PLAIN] + [
        causal("upper-left"), window(3, 0, "upper-left"), window(3, align="upper-left"),
        dilated(2, 3, "upper-left"), strided(4, "upper-left"), chunked(4, "upper-left"),
        blockwise(4, after=2), blockwise(4, 0, None), blockwise(4, align="upper-left"),
        padding, padding("both"), documents, same("speaker"), marked("x"), marked("x", "q"),
        prefix("prompt"), permutation, permutation("rank"), permutation(inclusive=False),
        two_stream(), two_stream("a", "b"), global_tokens("x", 0, -3, size=2, side="q"),
        global_tokens(1, align="upper-left"), random_blocks(1, 2, 3, 4), random_blocks(1, 2, -5),
        random_blocks(1, 2, heads=4), bigbird(4, 2, seed=9, heads=2),
    ]  # fmt: skip
    for pattern in written:
        again = eval(str(pattern), {"__builtins__": {}}, names)
        assert again == pattern
        assert hash(again) == hash(pattern)
        assert str(again) == str(pattern) == repr(pattern)


def test_bare_names_are_their_rules():
    assert [str(one) for one in (causal, padding, documents, permutation, full, nothing)] == [
        "causal", "padding", "documents", "permutation", "full", "nothing"
    ]  # fmt: skip
    assert causal("bottom-right") == causal
    assert padding("kv") == padding
    assert permutation("order") == permutation
    assert str(causal("upper-left")) == 'causal("upper-left")'
    assert str(window(4, 4)) == "window(4)"
    assert str(blockwise(4, after=2)) == "blockwise(4, after=2)"


WRONG = [
    (lambda: causal("lower-left"), "align='lower-left' of causal"),
    (lambda: window(-1), "left=-1 of window: it is a whole number, 0 or more"),
    (lambda: window(1, -1), "right=-1 of window"),
    (lambda: window(1.5), "left=1.5 of window"),
    (lambda: window(True), "left=True of window"),
    (lambda: window(1, align="left"), "align='left' of window"),
    (lambda: dilated(-1, 2), "width=-1 of dilated"),
    (lambda: dilated(1, 0), "dilation=0 of dilated: it is a whole number, 1 or more"),
    (lambda: dilated(1, 1, "left"), "align='left' of dilated"),
    (lambda: strided(0), "stride=0 of strided"),
    (lambda: strided(2, "left"), "align='left' of strided"),
    (lambda: summaries(0), "stride=0 of summaries"),
    (lambda: summaries(2, -1), "count=-1 of summaries"),
    (lambda: chunked(0), "size=0 of chunked"),
    (lambda: chunked(2, "left"), "align='left' of chunked"),
    (lambda: blockwise(0), "size=0 of blockwise"),
    (lambda: blockwise(2, -1), "before=-1 of blockwise"),
    (lambda: blockwise(2, 0, -1), "after=-1 of blockwise"),
    (lambda: blockwise(2, align="left"), "align='left' of blockwise"),
    (lambda: padding("keys"), "side='keys' of padding"),
    (lambda: marked("x", "keys"), "side='keys' of marked"),
    (lambda: marked(1), "channel=1 of marked"),
    (lambda: same(""), "channel='' of same"),
    (lambda: prefix(-1), "of=-1 of prefix"),
    (lambda: prefix(None), "of=None of prefix"),
    (lambda: permutation(3), "channel=3 of permutation"),
    (lambda: permutation(inclusive=1), "inclusive=1 of permutation"),
    (lambda: global_tokens(), "names no token"),
    (lambda: global_tokens(1.0), "1.0 of global_tokens"),
    (lambda: global_tokens(True), "True of global_tokens"),
    (lambda: global_tokens(0, size=0), "size=0 of global_tokens"),
    (lambda: global_tokens(0, side="x"), "side='x' of global_tokens"),
    (lambda: global_tokens(0, align="x"), "align='x' of global_tokens"),
    (lambda: random_blocks(-1, 2), "count=-1 of random_blocks"),
    (lambda: random_blocks(1, 0), "size=0 of random_blocks"),
    (lambda: random_blocks(1, 2, 0.5), "seed=0.5 of random_blocks"),
    (lambda: random_blocks(1, 2, heads=0), "heads=0 of random_blocks"),
    (lambda: block_diffusion(0), "size=0 of block_diffusion"),
    (lambda: longformer(-1), "left=-1 of window"),
    (lambda: longformer(1, dilation=0), "dilation=0 of dilated"),
    (lambda: streaming_sink(-1, 4), "sinks=-1 of streaming_sink"),
    (lambda: streaming_sink(1, -4), "left=-4 of window"),
    (lambda: per_head([]), "per_head takes a list of patterns"),
    (lambda: per_head([causal, "causal"]), "per_head takes a list of patterns"),
]


@pytest.mark.parametrize("make, message", WRONG, ids=[message[:40] for _, message in WRONG])
def test_settings_out_of_their_rule(make, message):
    with pytest.raises(PatternError) as caught:
        make()
    assert message in str(caught.value)


UNFIT = [
    (
        documents,
        Axis(2),
        "asks for segments of the q axis, which has no such column (it has: none)",
    ),
    (same("speaker"), Axis(2, mark=[True, False]), "it has: mark"),
    (marked("mark"), Axis(2, mark=[1, 0]), "reads mark of the kv axis as true or false"),
    (prefix("mark"), Axis(2, mark=[1, 0]), '`prefix("mark")` reads mark of the kv axis'),
    (global_tokens("mark"), Axis(2, mark=[1, 0]), "Give Booleans"),
    (permutation, Axis(2), "asks for order of the q axis"),
    (permutation, Axis(2, order=[True, False]), "reads order of the q axis as integers"),
    (global_tokens(-1), Axis(2, positions=[0, 1]), "counts from the end of the keys"),
    (block_diffusion(2), Axis(3), "is of 3 queries and 3 keys"),
]


@pytest.mark.parametrize("pattern, axis, message", UNFIT, ids=lambda one: str(one)[:30])
@pytest.mark.parametrize("values", ["dense", "blocks"])
def test_axes_that_do_not_fit(pattern, axis, message, values):
    with pytest.raises(AxisError) as caught:
        getattr(pattern, values)(axis)
    assert message in str(caught.value)


def test_a_channel_that_is_boolean_on_one_axis_only():
    with pytest.raises(AxisError, match="reads mark of the kv axis as true or false"):
        same("mark").dense(Axis(2, mark=[True, False]), Axis(2, mark=[1, 0]))
    with pytest.raises(AxisError, match="8 queries and 6 keys"):
        block_diffusion(2).dense(Axis(8), Axis(6))


def test_every_rule_of_the_library_is_tried():
    """A new rule of these files must be written out above."""
    files = {
        "chunks", "compositions", "global_tokens", "objectives", "pattern", "random_blocks",
        "relative", "sparse", "tokens",
    }  # fmt: skip
    values = {name: getattr(library, name) for name in library.__all__}
    written = {
        name
        for name, value in values.items()
        if getattr(type(value) if isinstance(value, Pattern) else value, "__module__", "").split(
            "."
        )[-1]
        in files
    }
    assert len(written) > 20
    assert written <= set(globals())
