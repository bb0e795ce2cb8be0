"""Every emit on samples small enough to write down."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maskwright import Clock, Keep, Mask, Masking, Ragged, TokenBatch
from maskwright.corruption import Delete, Infill, SampledRate, Sentinel
from maskwright.corruption.emit import Decoder, Diffusion, FillInTheMiddle, PrefixLM, Seq2Seq
from maskwright.errors import BatchError, PolicyError, VocabularyError
from tests.corruption.emit.plans import T5, Backwards, plan_of

# Thank you for inviting me to your party last week (1910.10683, figure 2), with </s> = 1 behind
THANK, YOU, FOR, INVITING, ME, TO, YOUR, PARTY, LAST, WEEK = range(10, 20)
SENTENCE = [THANK, YOU, FOR, INVITING, ME, TO, YOUR, PARTY, LAST, WEEK, 1]
UNITS = ((2, 3), (8,))
X, Y, Z = 139, 138, 137


def spans(rows, units, emit, **others):
    return emit_of(rows, units, Masking(act=Sentinel(), emit=emit), **others)


def emit_of(rows, units, masking, *, side="right", length=None, **others):
    return masking.emit(plan_of(rows, units, masking, **others), side=side, length=length)


def test_t5_writes_the_figure_of_its_paper():
    batch = spans([SENTENCE], [UNITS], Seq2Seq("spans"))
    assert batch.input_ids.tolist() == [[THANK, YOU, X, ME, TO, YOUR, PARTY, Y, WEEK, 1]]
    assert batch.labels.tolist() == [[X, FOR, INVITING, Y, LAST, Z, 1]]
    assert batch.origin.tolist() == [[0, 1, 2, 4, 5, 6, 7, 8, 9, 10]]
    assert batch.new_places().to_lists() == [[0, 1, 2, -1, 3, 4, 5, 6, 7, 8, 9]]
    assert set(batch.tensors) == {"input_ids", "attention_mask", "labels"}


def test_t5_ends_as_it_is_told():
    def labels(**settings):
        return spans([SENTENCE[:4]], [((2, 3),)], Seq2Seq("spans", **settings)).labels.tolist()[0]

    assert labels() == [X, FOR, INVITING, Y]  # no special token ends it
    assert labels(closing=False) == [X, FOR, INVITING]
    with pytest.raises(BatchError, match="Sample 0 does not end in a special token"):
        labels(add_eos=True)
    (row,) = spans([SENTENCE], [UNITS], Seq2Seq("spans", add_eos=False)).labels.tolist()
    assert row == [X, FOR, INVITING, Y, LAST, Z]


def test_labels_are_padded_on_the_right_whatever_the_inputs_are():
    rows = [[10, 11, 12, 13, 1], [14, 15, 1]]
    batch = spans(rows, [((0,), (2, 3)), ((0, 1),)], Seq2Seq("spans"), side="left", length=5)
    assert batch.input_ids.tolist() == [[0, X, 11, Y, 1], [0, 0, 0, X, 1]]
    assert batch.attention_mask.tolist() == [[0, 1, 1, 1, 1], [0, 0, 0, 1, 1]]
    assert batch.labels.tolist() == [[X, 10, Y, 12, 13, Z, 1], [X, 14, 15, Y, 1, -100, -100]]
    assert batch.origin.tolist() == [[-1, 0, 1, 2, 4], [-1, -1, -1, 0, 2]]


def test_adjacent_units_have_a_sentinel_each():
    batch = spans([[10, 11, 12, 1]], [((0, 1), (2,))], Seq2Seq("spans"))
    assert batch.input_ids.tolist() == [[X, Y, 1]]
    assert batch.labels.tolist() == [[X, 10, 11, Y, 12, Z, 1]]


def test_an_untouched_and_an_empty_sample_have_the_closing_sentinel():
    batch = spans([[10, 1], []], [(), ()], Seq2Seq("spans"))
    assert batch.input_ids.tolist() == [[10, 1], [0, 0]]
    assert batch.labels.tolist() == [[X, 1], [X, -100]]


def test_a_target_length_is_kept_or_refused():
    batch = spans([SENTENCE], [UNITS], Seq2Seq("spans", target_length=9))
    assert batch.labels.tolist() == [[X, FOR, INVITING, Y, LAST, Z, 1, -100, -100]]
    with pytest.raises(BatchError, match=r"Sample 0 has 7 labels, more than target_length=6"):
        spans([SENTENCE], [UNITS], Seq2Seq("spans", target_length=6))


def test_no_sentinel_is_left_to_close():
    row, units = list(range(10, 50)), tuple((i,) for i in range(40))
    with pytest.raises(VocabularyError, match="Sample 0 has 40 units"):
        spans([row], [units], Seq2Seq("spans"))
    batch = spans([row], [units], Seq2Seq("spans", closing=False))
    assert batch.labels.tolist()[0][-2:] == [100, 49]


def test_users_labels_are_the_targets():
    labels = [20, 21, 22, -100, 23, 1]
    given = [[10, 11, 12, 13, 14, 1]]
    batch = spans(given, [((1,),)], Seq2Seq("spans"), labels=[labels])
    assert batch.labels.tolist() == [[X, 21, Y, 1]]
    whole = emit_of(given, [((1,),)], Masking(act=Mask(), emit=Seq2Seq()), labels=[labels])
    assert whole.labels.tolist() == [labels]


def test_bart_reads_what_is_left_and_writes_all():
    row, units = [2, 10, 11, 12, 13, 1], [((1,), (3, 4))]
    for act, read, origin in (
        (Infill(), [2, 4, 11, 4, 1], [0, 1, 2, 3, 5]),
        (Delete(), [2, 11, 1], [0, 2, 5]),
        (Mask(), [2, 4, 11, 4, 4, 1], [0, 1, 2, 3, 4, 5]),
    ):
        batch = emit_of([row], units, Masking(act=act, emit=Seq2Seq()))
        assert batch.input_ids.tolist() == [read]
        assert batch.labels.tolist() == [row]
        assert batch.origin.tolist() == [origin]


def test_bart_with_empty_spans_and_another_order():
    masking = Masking(act=Infill(), arrange=Backwards(), emit=Seq2Seq())
    batch = emit_of([[2, 10, 11, 12, 1]], [((2,),)], masking, inserts=[(1, 1)])
    assert batch.input_ids.tolist() == [[2, 12, 4, 4, 4, 10, 1]]
    assert batch.origin.tolist() == [[0, 3, 2, -1, -1, 1, 4]]
    assert batch.new_places().to_lists() == [[0, 5, 2, 1, 6]]
    assert batch.labels.tolist() == [[2, 10, 11, 12, 1]]


def test_mass_writes_the_span_only():
    masking = Masking(act=Mask(), emit=Seq2Seq("span-only"))
    batch = emit_of([[10, 11, 12, 1], [13, 1]], [((1, 2),), ()], masking)
    assert batch.input_ids.tolist() == [[10, 4, 4, 1], [13, 1, 0, 0]]
    assert batch.labels.tolist() == [[11, 12], [-100, -100]]


def test_word_dropout_corrupts_a_token_where_it_is_read():
    masking = Masking(act=Mask(), emit=Decoder("all", start_id=2))
    batch = emit_of([[10, 11, 12, 1], [13, 1], []], [((1,),), ((0,),), ()], masking)
    tensors = batch.tensors
    assert set(tensors) == {"decoder_input_ids", "decoder_attention_mask", "labels"}
    assert tensors["decoder_input_ids"].tolist() == [[2, 10, 4, 12], [2, 4, 0, 0], [0] * 4]
    assert tensors["labels"].tolist() == [[10, 11, 12, 1], [13, 1, -100, -100], [-100] * 4]
    assert tensors["decoder_attention_mask"].sum(1).tolist() == [4, 2, 0]
    assert batch.origin.tolist() == [[-1, 0, 1, 2], [-1, 0, -1, -1], [-1] * 4]
    assert batch.new_places().to_lists() == [[1, 2, 3, -1], [1, -1], []]
    assert not batch.in_place


def test_the_conditional_masked_decoder_reads_tokens_where_they_stand():
    masking = Masking(act=Mask(), emit=Decoder("selected"))
    batch = emit_of([[10, 11, 1], [13, 1]], [((1,),), ((0,),)], masking, side="left")
    assert batch.tensors["decoder_input_ids"].tolist() == [[10, 4, 1], [0, 4, 1]]
    assert batch.labels.tolist() == [[-100, 11, -100], [-100, 13, -100]]
    assert batch.origin.tolist() == [[0, 1, 2], [-1, 0, 1]]


PRE, SUF, MID = 97, 98, 99


@pytest.mark.parametrize(
    ("mode", "read", "origin"),
    [
        ("psm", [2, PRE, 10, SUF, 13, MID, 11, 12, 1], [0, -1, 1, -1, 4, -1, 2, 3, 5]),
        ("spm", [2, PRE, SUF, 13, MID, 10, 11, 12, 1], [0, -1, -1, 4, -1, 1, 2, 3, 5]),
    ],
)
def test_the_middle_comes_last(mode, read, origin):
    emit = FillInTheMiddle(PRE, SUF, MID, mode=mode)
    masking = Masking(act=Keep(), emit=emit)
    batch = emit_of([[2, 10, 11, 12, 13, 1], [14, 15]], [((2, 3),), ()], masking)
    rest = [-1] * 7
    assert batch.input_ids.tolist() == [read, [14, 15, *[0] * 7]]
    assert batch.labels.tolist() == [read, [14, 15, *[-100] * 7]]
    assert batch.origin.tolist() == [origin, [0, 1, *rest]]
    assert not batch.in_place


@pytest.mark.parametrize("mode", ["psm", "spm"])
def test_loss_of_the_middle_and_of_what_ends_it(mode):
    emit = FillInTheMiddle(PRE, SUF, MID, mode=mode, loss="middle")
    masking = Masking(act=Keep(), emit=emit)
    batch = emit_of([[2, 10, 11, 12, 13, 1], [14, 15]], [((2, 3),), ()], masking)
    assert batch.labels.tolist() == [[-100] * 6 + [11, 12, 1], [14, 15] + [-100] * 7]


def test_a_middle_at_either_edge_leaves_an_empty_part():
    masking = Masking(act=Keep(), emit=FillInTheMiddle(PRE, SUF, MID))
    batch = emit_of([[10, 11], [10, 11]], [((0,),), ((0, 1),)], masking)
    assert batch.input_ids.tolist() == [[PRE, SUF, 11, MID, 10], [PRE, SUF, MID, 10, 11]]


@pytest.mark.parametrize("units", [((1,), (2,)), ((1,), (3,)), ((1, 3),)])
def test_one_middle_a_sample(units):
    masking = Masking(act=Keep(), emit=FillInTheMiddle(PRE, SUF, MID))
    with pytest.raises(BatchError, match="moves one unit of neighbouring tokens, and of sample 1"):
        emit_of([[10, 11], [10, 11, 12, 13]], [((0,),), units], masking)


@pytest.mark.parametrize("units", [((1, 2, 4),), ((1, 2), (4,))], ids=["one", "cut"])
@pytest.mark.parametrize(
    ("mode", "read", "origin"),
    [
        (
            "psm",
            [2, PRE, 10, SUF, 14, 1, 15, MID, 11, 12, 1, 13, 1],
            [0, -1, 1, -1, 6, 7, 8, -1, 2, 3, 4, 5, 9],
        ),
        (
            "spm",
            [2, PRE, SUF, 14, 1, 15, MID, 10, 11, 12, 1, 13, 1],
            [0, -1, -1, 6, 7, 8, -1, 1, 2, 3, 4, 5, 9],
        ),
    ],
)
def test_a_separator_in_the_middle_moves_with_it(mode, read, origin, units):
    """Three documents in one row: separators stay where they stand in their text."""
    row = [2, 10, 11, 12, 1, 13, 14, 1, 15, 1]
    units = tuple(tuple(place + 1 for place in unit) for unit in units)  # behind <s>
    masking = Masking(act=Keep(), emit=FillInTheMiddle(PRE, SUF, MID, mode=mode))
    batch = emit_of([row], [units], masking)
    assert batch.input_ids.tolist() == [read]
    assert batch.labels.tolist() == [read]
    assert batch.origin.tolist() == [origin]


def test_a_protected_token_in_the_middle_moves_and_is_no_label():
    masking = Masking(act=Keep(), emit=FillInTheMiddle(PRE, SUF, MID))
    row, hidden = [2, 10, 11, 12, 13, 14, 1], [1, 0, 0, 1, 0, 0, 1]
    batch = emit_of([row], [((2, 4),)], masking, protected=[hidden])
    assert batch.input_ids.tolist() == [[2, PRE, 10, SUF, 14, MID, 11, 12, 13, 1]]
    assert batch.labels.tolist() == [[2, PRE, 10, SUF, 14, MID, 11, -100, 13, 1]]


# a prompt with its end, an answer with its end, and flags on every special token as tokenizers
# set them: 0 pad, 1 </s>, 2 <s>, 3 [SEP]
PROMPTED = [2, 10, 11, 3, 12, 13, 1]
HIDDEN = [1, 1, 1, 1, 0, 0, 1]
DECODED = Masking(act=Mask(), emit=Decoder("all", start_id=2))
PREFIXED = Masking(act=Keep(), emit=PrefixLM())
FILLED = Masking(act=Keep(), emit=FillInTheMiddle(PRE, SUF, MID))


def test_the_end_of_an_answer_is_predicted_and_a_prompt_is_not():
    for masking, wanted in (
        (DECODED, [-100, -100, -100, -100, 12, 13, 1]),
        (PREFIXED, [-100, -100, -100, -100, 12, 13, 1]),
    ):
        batch = emit_of([PROMPTED], [((4, 5),)], masking, protected=[HIDDEN])
        assert batch.labels.tolist() == [wanted]
    batch = emit_of([PROMPTED], [((5,),)], FILLED, protected=[HIDDEN])
    assert batch.input_ids.tolist() == [[2, PRE, 10, 11, 3, 12, SUF, MID, 13, 1]]
    hidden = [-100] * 3
    assert batch.labels.tolist() == [[-100, PRE, *hidden, 12, SUF, MID, 13, 1]]
    # nor in a sample that nothing was selected of
    assert emit_of([PROMPTED], [()], FILLED, protected=[HIDDEN]).labels.tolist() == [
        [-100, -100, -100, -100, 12, 13, 1]
    ]


def test_a_prompt_after_the_first_selected_token_is_not_predicted():
    row, hidden = [10, 11, 1, 12, 13, 3, 14, 1], [0, 0, 0, 1, 1, 0, 0, 0]
    batch = emit_of([row], [((1,), (6,))], PREFIXED, protected=[hidden])
    assert batch.labels.tolist() == [[-100, 11, 1, -100, -100, -100, 14, 1]]
    assert batch.prefix_lengths is not None
    assert batch.prefix_lengths.tolist() == [1]


def test_special_tokens_are_predicted_where_nothing_is_protected():
    batch = emit_of([[2, 10, 3, 11, 1], [2, 1]], [((1,),), ()], DECODED)
    assert batch.labels.tolist() == [[2, 10, 3, 11, 1], [2, 1, -100, -100, -100]]


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ([10, 11, 1, 0, 0], [10, 11, 1, -100, -100]),
        ([10, 11, 0, 0, 0], [10, 11, 0, -100, -100]),  # its own end token pads it
        ([0, 0, 2, 10, 1], [-100, -100, 2, 10, 1]),
        ([10, 0, 11, 0, 0], [10, 0, 11, 0, -100]),  # two documents with such ends
    ],
)
def test_padding_in_a_sample_is_never_predicted(row, wanted):
    assert emit_of([row], [()], DECODED).labels.tolist() == [wanted]
    assert emit_of([row], [()], FILLED).labels.tolist() == [wanted]


@pytest.mark.parametrize("masking", [DECODED, PREFIXED, FILLED], ids=str)
def test_users_labels_of_minus_100_survive(masking):
    """And so does a label that the user gave a special token of the prompt."""
    labels, hidden = [-100, -100, -100, 3, 20, -100, 21], [1, 1, 1, 0, 0, 1, 0]
    batch = emit_of([PROMPTED], [((4,),)], masking, labels=[labels], protected=[hidden])
    by_place = dict(zip(batch.origin[0].tolist(), batch.labels[0].tolist(), strict=True))
    if masking is DECODED:  # it reads one place later than it predicts
        by_place = dict(enumerate(batch.labels[0].tolist()))
    if masking is PREFIXED:
        labels = [-100] * 4 + labels[4:]
    assert {place: by_place[place] for place in range(7)} == dict(enumerate(labels))


def test_a_protected_token_is_no_label_whatever_the_user_says():
    labels = [2, 20, 21, 3, 22, 23, 1]
    batch = emit_of([PROMPTED], [((4, 5),)], DECODED, labels=[labels], protected=[HIDDEN])
    assert batch.labels.tolist() == [[2, -100, -100, 3, 22, 23, 1]]


def test_a_prefix_is_given_and_the_rest_predicted():
    masking = Masking(act=Keep(), emit=PrefixLM())
    rows = [[2, 10, 11, 12, 1], [13, 14, 1]]
    batch = emit_of(rows, [((2, 3),), ()], masking, side="left")
    assert batch.input_ids.tolist() == [[2, 10, 11, 12, 1], [0, 0, 13, 14, 1]]
    assert batch.labels.tolist() == [[-100, -100, 11, 12, 1], [-100] * 5]
    assert batch.prefix_lengths is not None
    assert batch.prefix_lengths.tolist() == [2, 3]
    assert "prefix_lengths" not in batch.tensors
    with pytest.raises(BatchError, match="of sample 0 tokens after it were not selected"):
        emit_of([[10, 11, 12]], [((0,),)], masking)


def test_diffusion_weighs_by_one_over_the_rate():
    masking = Masking(rate=0.25, act=Mask(), emit=Diffusion())
    batch = emit_of([[10, 11, 12], [13]], [((0,), (2,)), ()], masking)
    assert batch.labels.tolist() == [[10, -100, 12], [-100] * 3]
    assert batch.loss_weights.tolist() == [[4.0, 0.0, 4.0], [0.0] * 3]
    assert batch.tensors["maskable"].tolist() == [[True] * 3, [True, False, False]]
    floor = Masking(rate=0.0, act=Mask(), emit=Diffusion(least=0.5))
    assert emit_of([[10]], [((0,),)], floor).loss_weights.tolist() == [[2.0]]


def test_diffusion_says_which_tokens_might_have_been_masked():
    """Not the special ones, not the protected ones, not those without a label, no padding."""
    masking = Masking(rate=0.25, act=Mask(), emit=Diffusion())
    batch = emit_of(
        [[2, 10, 11, 12, 1], [13, 14]], [((1,),), ()], masking, side="left", length=6,
        protected=[[0, 0, 1, 0, 0], [0, 0]], labels=[[2, 10, 11, -100, 1], [13, 14]],
    )  # fmt: skip
    no, yes = False, True
    assert batch.tensors["maskable"].tolist() == [
        [no, no, yes, no, no, no],
        [no, no, no, no, yes, yes],
    ]


def test_diffusion_counts_each_token_once_on_average():
    """20,000 samples of 8 tokens: the mean weighted number of losses is 8.

    A sample's is ``K / t``, whose variance is ``8 E[1/t - 1] = 8 (ln 100 / 0.99 - 1)`` for ``t``
    uniform from 0.01 to 1: less than 30. The error of the mean is then below 0.039, and five
    of them (with ``n`` this large a normal tail) are exceeded with probability below 6e-7.
    """
    many = 20_000
    tokens = Ragged(np.tile(np.arange(10, 18), many), np.arange(many + 1) * 8)
    rate = SampledRate(low=0.01)
    masking = Masking(rate=rate, act=Mask(), emit=Diffusion(least=0.01)).bind(T5)
    batch = masking.emit(masking.plan(TokenBatch(tokens, np.arange(many)), Clock(seed=1)))
    mean = float(batch.loss_weights.double().sum()) / many
    assert abs(mean - 8) < 5 * (30 / many) ** 0.5


def test_rounding_up_to_a_multiple():
    for masking, shape in (
        (Masking(act=Sentinel(), emit=Seq2Seq("spans")), (16, 8)),
        (Masking(emit=Decoder("all", start_id=0)), (16, 16)),
        (Masking(), (16, 16)),
        (Masking(act=Keep(), emit=PrefixLM()), (16, 16)),
    ):
        units = UNITS if isinstance(masking.emit, Seq2Seq) else (tuple(range(4, 10)),)
        masked = masking.emit(plan_of([SENTENCE], [units], masking), multiple=8)
        assert (masked.input_ids.shape[1], masked.labels.shape[1]) == shape


@pytest.mark.parametrize("name", ["tensors", "loss_weights"])
def test_all_ids_are_int64_and_weights_float(name):
    batch = spans([SENTENCE], [UNITS], Seq2Seq("spans"))
    if name == "tensors":
        assert {tensor.dtype for tensor in batch.tensors.values()} == {torch.int64}
    else:
        assert batch.loss_weights.tolist() == [[1.0] * 7]


def test_empty_units_have_no_label_of_their_own():
    for emit, act in ((Seq2Seq("spans"), Sentinel()), (Decoder("all", start_id=0), Mask())):
        masking = Masking(act=act, emit=emit)
        with pytest.raises(PolicyError, match="empty units"):
            emit_of([[10, 11]], [((1,),)], masking, inserts=[(0,)])
    with pytest.raises(PolicyError, match="empty units"):
        emit_of([[10, 11]], [((1,),)], Masking(), inserts=[(0,)])
