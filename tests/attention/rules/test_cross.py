"""Rules from a target to its source, written out by hand: q is the target, kv the source."""

from __future__ import annotations

import pytest
import torch

from maskwright.attention import (
    Axis,
    aligned,
    chunked_streaming,
    copy_only,
    documents,
    full,
    monotonic_window,
    padding,
    segments,
    visible,
    wait_k,
)
from maskwright.errors import AxisError, PatternError
from tests.attention.matrices import shown

PLAIN = [
    (padding, 2, 3, "111/111"),
    (wait_k(1), 3, 4, "1000/1100/1110"),
    (wait_k(3), 3, 4, "1110/1111/1111"),
    (wait_k(9), 2, 3, "111/111"),
    (wait_k(1, 2), 3, 6, "100000/111000/111110"),
    (wait_k(2, 8), 2, 11, "11000000000/11111111110"),
    # three reads for four writes: no read between the first and the second token
    (wait_k(2, 0.75), 6, 7, "1100000/1110000/1111000/1111000/1111100/1111110"),
    (wait_k(1, 0.5), 5, 4, "1000/1000/1100/1100/1110"),
    (wait_k(1, 1.5), 4, 6, "100000/110000/111100/111110"),
    (chunked_streaming(2), 4, 4, "1100/1100/1111/1111"),
    (chunked_streaming(2, 0), 5, 5, "11000/11000/00110/00110/00001"),
    (chunked_streaming(2, 1), 6, 6, "110000/110000/111100/111100/001111/001111"),
    (chunked_streaming(2, lookahead=1), 4, 5, "11100/11100/11111/11111"),
    (chunked_streaming(1, 0, 1), 3, 4, "1100/0110/0011"),
    # each token lasts two frames, a chunk has four: two tokens are in a chunk
    (chunked_streaming(4, 0, rate=2), 3, 8, "11110000/11110000/00001111"),
    (chunked_streaming(2, rate=0.5), 5, 4, "1100/1100/1100/1100/1111"),
    (monotonic_window(0), 3, 3, "100/010/001"),
    (monotonic_window(1), 3, 3, "110/111/011"),
    (monotonic_window(1, 0), 3, 3, "100/110/011"),
    (monotonic_window(0), 2, 4, "0100/0001"),
    (monotonic_window(0), 4, 2, "10/10/01/01"),
    (monotonic_window(0), 3, 6, "010000/000100/000001"),
    (monotonic_window(0, 1), 1, 3, "011"),
    (monotonic_window(0, rate=2), 2, 5, "01000/00010"),
    (monotonic_window(0, rate=1.5), 3, 5, "10000/00100/00010"),
    (aligned([]), 2, 2, "11/11"),
    (aligned([], unaligned="nothing"), 2, 2, "00/00"),
    (aligned([(0, 1), (1, 0)]), 3, 2, "01/10/11"),
    (aligned([(2, 0), (0, 2), (0, 0)], unaligned="nothing"), 4, 4, "1010/0000/1000/0000"),
    (aligned([(0, 0), (0, 4)], 1, "nothing"), 2, 6, "110111/000000"),
    (aligned([(0, 0), (0, 1), (1, 3)], 1), 2, 4, "1110/0011"),
    (visible([[1, 0, 1], [0, 1, 0]]), 2, 3, "101/010"),
    (visible([[True, False]]), 1, 2, "10"),
]


@pytest.mark.parametrize("pattern, q, kv, rows", PLAIN, ids=lambda one: str(one)[:40])
def test_by_hand(pattern, q, kv, rows):
    assert shown(pattern, q, kv) == rows


def test_wait_k_is_the_formula_of_the_paper():
    """g(t) = min(k + t - 1 - floor(c * t), source), with t from 1."""
    for k, (over, under) in [(1, (0, 1)), (2, (1, 4)), (3, (1, 3)), (5, (1, 2)), (1, (9, 10))]:
        for source in (1, 4, 30):
            mask = wait_k(k, 1 - over / under).dense(Axis(40), Axis(source))[0, 0]
            read = [min(k + t - 1 - over * t // under, source) for t in range(1, 41)]
            assert mask.sum(-1).tolist() == read
            assert all(row[:n].all() for row, n in zip(mask, read, strict=True))


def test_one_token_at_a_time_is_the_row_of_training():
    """With its position, the newest query of a generation sees what it saw in training."""
    source = Axis(13)
    for pattern in (
        wait_k(3, 1.5),
        chunked_streaming(4, 1, 2, rate=1.5),
        monotonic_window(2, 1, rate=1.25),
        aligned([(0, 3), (4, 7), (6, 12)], 1),
    ):
        whole = pattern.dense(Axis(9), source)[0, 0]
        for t in range(9):
            assert torch.equal(pattern.dense(Axis(1, positions=[t]), source)[0, 0, 0], whole[t])


def test_the_diagonal_of_samples_of_different_lengths():
    target = Axis.padded(torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]))
    source = Axis.padded(torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]))
    assert shown(monotonic_window(0) & padding, target, source) == (
        "1000/1000/0100/0100 0100/0001/0001/0001"
    )


def test_the_diagonal_with_padding_on_the_left():
    target = Axis(3, valid=torch.tensor([False, True, True]))
    source = Axis(4, valid=torch.tensor([False, False, True, True]))
    assert shown(monotonic_window(0) & padding, target, source) == "0010/0010/0001"


def test_the_diagonal_where_one_axis_has_samples():
    source = Axis(4, valid=torch.tensor([[True] * 4, [True, True, False, False]]))
    assert shown(monotonic_window(0) & padding, 2, source) == "0100/0001 1000/0100"


def test_the_diagonal_without_any_tokens():
    nothing_there = Axis(2, valid=torch.zeros(2, dtype=torch.bool))
    assert shown(monotonic_window(0) & padding, nothing_there, nothing_there) == "00/00"


def test_links_of_each_sample():
    pattern = aligned([[(0, 0), (1, 1)], [], [(0, 1)]])
    assert shown(pattern, 2, 2) == "10/01 11/11 01/11"


def test_links_are_by_position():
    """A query before the first token, or after the last linked one, has no links."""
    q = Axis(3, positions=[[-1, 1, 0], [9, 2, 1]])
    pattern = aligned([(0, 2), (1, 0)], unaligned="nothing")
    assert shown(pattern, q, 3) == "000/100/001 000/000/100"
    kv = Axis(3, positions=[2, 1, 0])
    assert shown(pattern, q, kv) == "000/001/100 000/000/001"
    assert pattern.blocks(q, kv, 1).states.flatten(2).bool().sum(-1).tolist() == [[2], [1]]


def test_packed_pairs():
    target = Axis(4, segments=[0, 0, 1, 2])
    source = Axis(5, segments=[0, 1, 1, 2, 2])
    assert shown(documents, target, source) == "10000/10000/01100/00011"
    assert segments() == documents
    assert shown(segments({0: (0, 2), 1: 1}), target, source) == "10011/10011/01100/00000"
    assert shown(segments([(2, 0), (2, 1)]), target, source) == "00000/00000/00000/11100"
    assert shown(segments({}), 1, 2) == "00"
    assert segments([(0, 1), (0, 0)]) == segments({0: [0, 1]}) == segments({0: {1, 0}, 3: []})


def test_what_may_be_copied():
    source = Axis(3, copy=[True, False, True], tokens=[7, 5, 9], name=[False, False, True])
    assert shown(copy_only, 2, source) == "101/101"
    assert shown(copy_only(channel="name"), 1, source) == "001"
    assert shown(copy_only((5, 7)), 1, source) == "110"
    assert shown(copy_only(9), 1, source) == "001"
    with pytest.raises(AxisError, match="asks for copy of the kv axis, which has no such column"):
        copy_only.dense(Axis(1), Axis(2))
    with pytest.raises(AxisError, match="reads tokens of the kv axis as true or false"):
        copy_only(channel="tokens").dense(Axis(1), source)
    with pytest.raises(AxisError, match="reads copy of the kv axis as integers"):
        copy_only(5, "copy").dense(Axis(1), source)


WRONG = [
    (lambda: wait_k(0), "k=0 of wait_k: it is a whole number, 1 or more"),
    (lambda: wait_k(2.5), "k=2.5 of wait_k"),
    (lambda: wait_k(1, 0), "rate=0 of wait_k"),
    (lambda: wait_k(1, float("nan")), "rate=nan of wait_k"),
    (lambda: wait_k(1, "1"), "rate='1' of wait_k"),
    (lambda: wait_k(1, 1e9), "rate=1000000000.0 of wait_k"),
    (lambda: chunked_streaming(0), "chunk=0 of chunked_streaming"),
    (lambda: chunked_streaming(2, -1), "left=-1 of chunked_streaming"),
    (lambda: chunked_streaming(2, 0, -1), "lookahead=-1 of chunked_streaming"),
    (lambda: chunked_streaming(2, rate=True), "rate=True of chunked_streaming"),
    (lambda: monotonic_window(-1), "left=-1 of monotonic_window"),
    (lambda: monotonic_window(1, -2), "right=-2 of monotonic_window"),
    (lambda: monotonic_window(1, rate=-1), "rate=-1 of monotonic_window"),
    (lambda: aligned([(0, -1)]), "Link (0, -1) of aligned"),
    (lambda: aligned([[(0, 1)], [(0, 1, 2)]]), "Link (0, 1, 2) of sample 1 of aligned"),
    (lambda: aligned([(0, 1), 3]), "Link 3 of aligned"),
    (lambda: aligned([[(0, 1)], 3]), "links of aligned has 3 of sample 1"),
    (lambda: aligned(3), "links=3 of aligned"),
    (lambda: aligned([(0, 0.5)]), "Link (0, 0.5) of aligned"),
    (lambda: aligned([], -1), "radius=-1 of aligned"),
    (lambda: aligned([], 0, "some"), "unaligned='some' of aligned"),
    (lambda: visible([[1, 2]]), "values other than 0 and 1"),
    (lambda: visible([[0.0, 1.0]]), "give mask == 0"),
    (lambda: visible([1, 0]), "of shape (2,)"),
    (lambda: visible([[1], [1, 0]]), "The matrix of visible is no matrix"),
    (lambda: visible(None), "The matrix of visible is no matrix"),
    (lambda: segments({0: "a"}), "Segment 'a' of segments"),
    (lambda: segments({True: 0}), "Segment True of segments"),
    (lambda: segments([0, 1]), "0 of segments: give {q segment: (kv segments)}"),
    (lambda: segments(3), "3 of segments"),
    (lambda: copy_only("a"), "Token id 'a' of copy_only"),
    (lambda: copy_only(channel=""), "channel='' of copy_only"),
]


@pytest.mark.parametrize("make, message", WRONG, ids=[message[:40] for _, message in WRONG])
def test_settings_out_of_their_rule(make, message):
    with pytest.raises(PatternError) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize("values", ["dense", "blocks", "block_mask"])
def test_links_beyond_an_axis(values):
    pattern = aligned([[(0, 0)], [(1, 0), (0, 2)], [(3, 0)]])
    with pytest.raises(AxisError, match=r"Link \(0, 2\) of sample 1 in .*: its source token 2 is "
                       "not on the kv axis, which has the length 2"):  # fmt: skip
        getattr(pattern, values)(Axis(4), Axis(2))
    with pytest.raises(AxisError, match=r"Link \(3, 0\) of sample 2 .* target token 3 .* q axis"):
        getattr(pattern, values)(Axis(2), Axis(3))
    assert pattern.dense(Axis(4), Axis(3)).shape == (3, 1, 4, 3)


@pytest.mark.parametrize("values", ["dense", "blocks", "block_mask"])
def test_a_matrix_for_other_lengths(values):
    pattern = full & ~visible([[1, 0, 1], [0, 1, 0]])
    with pytest.raises(AxisError, match=r"`visible\(.*\)` has 2 rows; the q axis has the length 3"):
        getattr(pattern, values)(Axis(3))
    with pytest.raises(AxisError, match="has 3 columns; the kv axis has the length 2"):
        getattr(pattern, values)(Axis(2))


def test_links_and_axes_that_differ_in_batch():
    pattern = aligned([[(0, 0)] * 40, []])
    with pytest.raises(AxisError, match=r"the q axis has 3, `aligned.*…` has 2") as caught:
        pattern.dense(Axis(1, segments=[[0], [1], [2]]), Axis(1))
    assert len(str(caught.value)) < 200
