"""PairCollator: the shift, labels that no mask changes, and the laws of masks on both sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from transformers import DataCollatorForSeq2Seq

from maskwright import Clock, Mask, Masking
from maskwright.corruption import (
    DECODER_MASKINGS,
    Decoder,
    Delete,
    Infill,
    MixedMasking,
    Seq2Seq,
    decoder_masking,
)
from maskwright.hf import ClockedSampler, MaskingCollator, PairCollator, Sample, with_sample_ids
from tests.core import tokenizers
from tests.hf.pairs import models

WORDS = tokenizers.words()
PAIRS = models.pairs()
MASK = WORDS.mask_token_id
HALF = Masking(rate=0.5, act=Mask())
every_text = pytest.mark.parametrize("kind", models.TEXT)


def collator(**settings: Any) -> PairCollator:
    """Of a decoder that starts with 2, in epoch 0."""
    made = PairCollator(WORDS, **({"decoder_start_id": 2, "seed": 3} | settings))
    made.set_clock(0)
    return made


def rows_of(batch: Any) -> dict[int, tuple]:
    """What each sample became, without padding, by its id."""
    found = {}
    for row, number in enumerate(batch["sample_ids"].tolist()):
        source, target = (
            batch["attention_mask"][row] != 0,
            batch["decoder_attention_mask"][row] != 0,
        )
        found[number] = tuple(
            tuple(batch[name][row][where].tolist())
            for name, where in (
                ("input_ids", source), ("decoder_input_ids", target), ("labels", target),
            )
        )  # fmt: skip
    return found


# -- the shift ------------------------------------------------------------------------------------


def test_the_shift_is_done_once():
    pair = {"input_ids": [2, 5, 6, 3], "labels": [11, 12, 13, 3], "sample_id": 7}
    batch = collator(decoder_start_id=9)([pair, {"input_ids": [8], "labels": [3]}])
    assert batch["input_ids"].tolist() == [[2, 5, 6, 3], [8, 0, 0, 0]]
    assert batch["decoder_input_ids"].tolist() == [[9, 11, 12, 13], [9, 3, 0, 0]]
    assert batch["decoder_attention_mask"].tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]
    assert batch["labels"].tolist() == [[11, 12, 13, 3], [3, -100, -100, -100]]
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())


@every_text
@pytest.mark.parametrize("multiple", [None, 8])
# EncoderDecoderModel warns of labels beside decoder_input_ids
@pytest.mark.filterwarnings("ignore:Version v4.12.0:FutureWarning")
def test_without_masks_it_is_that_of_transformers(kind, multiple):
    """Bit for bit, with the model's own shift; and so is the loss."""
    model = models.model(kind).eval()
    plain = [{name: row[name] for name in ("input_ids", "labels")} for row in PAIRS]
    theirs = DataCollatorForSeq2Seq(WORDS, model=model, pad_to_multiple_of=multiple)(
        [dict(row) for row in plain]
    )
    ours = PairCollator(WORDS, model=model, pad_to_multiple_of=multiple)(plain)
    assert set(ours) == {*theirs, "decoder_attention_mask"}
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name
    assert ours["decoder_input_ids"][:, 0].eq(models.START[kind]).all()
    wanted = model(input_ids=theirs["input_ids"], attention_mask=theirs["attention_mask"],
                   labels=theirs["labels"]).loss  # fmt: skip
    known = {name: tensor for name, tensor in ours.items() if name != "decoder_attention_mask"}
    assert torch.equal(model(**known).loss, wanted)
    torch.testing.assert_close(model(**ours).loss, wanted, rtol=1e-6, atol=0)


def test_padding_of_the_data_set_is_taken_off():
    padded = [
        {"input_ids": [0, 2, 5, 3], "attention_mask": [0, 1, 1, 1], "labels": [11, 3, -100, -100]},
        {"input_ids": [2, 3, 0, 0], "attention_mask": [1, 1, 0, 0], "labels": [-100, 12, 13, 3]},
    ]
    batch = collator()(padded)
    assert batch["input_ids"].tolist() == [[2, 5, 3], [2, 3, 0]]
    assert batch["labels"].tolist() == [[11, 3, -100], [12, 13, 3]]


def test_sounds_go_through_and_only_the_decoder_is_masked():
    model, sounds = models.model("whisper").eval(), models.sounds()
    batch = PairCollator(WORDS, model=model)(sounds)
    assert torch.equal(batch["input_features"][1], torch.from_numpy(sounds[1]["input_features"]))
    assert batch["decoder_input_ids"][0].tolist() == [
        2,
        *sounds[0]["labels"][:-1],
        3,
        0,
        0,
        0,
        0,
        0,
    ]
    own = model(input_features=batch["input_features"], labels=batch["labels"])
    torch.testing.assert_close(model(**batch).loss, own.loss, rtol=1e-6, atol=0)

    masked = PairCollator(WORDS, model=model, target=HALF, seed=3)
    masked.set_clock(0)
    noisy = masked(sounds)
    assert torch.equal(noisy["input_features"], batch["input_features"])
    assert torch.equal(noisy["labels"], batch["labels"])
    assert (noisy["decoder_input_ids"] == MASK).any()


# -- what masks change, and what they do not ------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in DECODER_MASKINGS if name != "cmlm"])
def test_masks_on_both_sides_never_change_labels(name):
    pairs = [row | {"alignments": [[1, 0], [2, 1]]} for row in PAIRS]
    rate = None if name == "none" else 0.6
    target = decoder_masking(name, start_id=2, rate=rate)
    made = collator(source=HALF, target=target)
    batch, plain = made(pairs), collator()(PAIRS)
    assert torch.equal(batch["labels"], plain["labels"])
    assert torch.equal(batch["attention_mask"], plain["attention_mask"])
    assert torch.equal(batch["decoder_attention_mask"], plain["decoder_attention_mask"])
    assert (batch["input_ids"] == MASK).any()
    changed = batch["decoder_input_ids"] != plain["decoder_input_ids"]
    assert changed.any() == (name != "none")
    # each where it is read: one place behind its own, but for the last, which never is
    plan = made.plan(pairs)[1]
    selected = plan.selected.to_padded(0, length=changed.shape[1]).bool()
    ends = torch.tensor([len(row["labels"]) - 1 for row in PAIRS])
    assert not changed[:, 0].any()
    assert not (changed[:, 1:] & ~selected[:, :-1]).any()
    if name not in ("none", "sparse"):
        read = torch.where(torch.arange(1, changed.shape[1]) <= ends[:, None], selected[:, :-1], 0)
        assert torch.equal(changed[:, 1:], read.bool())
        assert (batch["decoder_input_ids"][changed] == MASK).all()


def test_a_conditional_masked_language_model_predicts_what_is_masked():
    batch = collator(target=decoder_masking("cmlm", start_id=2))(PAIRS)
    targets = collator()(PAIRS)["labels"]
    masked = batch["decoder_input_ids"] == MASK
    assert masked.any(1).all()
    assert torch.equal(batch["labels"] != -100, masked)
    assert torch.equal(batch["labels"][masked], targets[masked])
    shown = batch["decoder_attention_mask"].bool() & ~masked
    assert torch.equal(batch["decoder_input_ids"][shown], targets[shown])
    assert (batch["decoder_input_ids"][~batch["decoder_attention_mask"].bool()] == 0).all()


def test_a_source_policy_may_take_tokens_out():
    deleted = Masking(rate=0.5, act=Delete(), emit=Seq2Seq())
    batch, plain = collator(source=deleted)(PAIRS), collator()(PAIRS)
    assert batch["attention_mask"].sum() < plain["attention_mask"].sum()
    assert torch.equal(batch["labels"], plain["labels"])
    infilled = collator(source=Masking(rate=0.5, act=Infill(), emit=Seq2Seq()))(PAIRS)
    assert (infilled["input_ids"] == MASK).any()


def test_a_policy_without_an_emit_gets_that_of_the_decoder():
    told = Masking(rate=0.5, act=Mask(), emit=Decoder("all", start_id=2))
    mixed = MixedMasking(((1.0, HALF), (1.0, Masking(rate=0.9, act=Mask(), stream=1))))
    batch = collator(target=HALF)(PAIRS)
    assert torch.equal(
        batch["decoder_input_ids"], collator(target=told)(PAIRS)["decoder_input_ids"]
    )
    more = collator(target=mixed)(PAIRS)
    assert torch.equal(more["labels"], batch["labels"])
    assert (more["decoder_input_ids"] == MASK).sum() > (batch["decoder_input_ids"] == MASK).sum()


def test_both_sides_draw_apart_and_the_source_as_alone():
    """A policy of the source draws what `MaskingCollator` would; that of the target another."""
    same = [
        {"input_ids": [*range(5, 45)], "labels": [*range(5, 45)], "sample_id": i} for i in range(4)
    ]
    source, target = collator(source=HALF, target=HALF).plan(same)
    alone = MaskingCollator(WORDS, HALF, seed=3)
    alone.set_clock(0)
    rows = [{name: row[name] for name in ("input_ids", "sample_id")} for row in same]
    assert source is not None
    assert np.array_equal(source.positions, alone.plan(rows).positions)
    both = np.intersect1d(source.positions, target.positions)
    assert 0.15 < len(both) / 160 < 0.35  # a quarter, were they independent


def test_evaluation_has_no_masks_but_those_that_are_the_task():
    made = collator(source=HALF, target=HALF)
    plain, batch = collator()(PAIRS), made.for_evaluation()(PAIRS)
    assert all(torch.equal(batch[name], tensor) for name, tensor in plain.items())
    assert (made(PAIRS)["input_ids"] == MASK).any()
    task = collator(source=HALF, target=decoder_masking("cmlm", start_id=2))
    batch = task.for_evaluation()(PAIRS)
    assert torch.equal(batch["input_ids"], plain["input_ids"])
    assert torch.equal(batch["labels"], task(PAIRS)["labels"])


def test_token_types_and_another_tokenizer_of_the_target():
    pieces = tokenizers.unigram()
    target = pieces("the lazy dog", add_special_tokens=False)["input_ids"] + [1]
    pair = {"input_ids": [2, 5, 3], "token_type_ids": [0, 1, 1], "labels": target, "sample_id": 0}
    made = PairCollator(WORDS, target_tokenizer=pieces, decoder_start_id=0, pad_to_multiple_of=4)
    batch = made([pair])
    assert batch["token_type_ids"].tolist() == [[0, 1, 1, 0]]
    assert [token for token in batch["labels"][0].tolist() if token != -100] == target


# -- alignments -----------------------------------------------------------------------------------


def test_what_is_aligned_with_marked_source_tokens_is_masked():
    pair = {
        "input_ids": [2, 5, 6, 7, 3], "marks": [0, 0, 1, 1, 0],
        "labels": [11, 12, 13, 14, 3], "alignments": [[1, 0], [2, 2], [3, 3], [2, 1]],
        "sample_id": 0,
    }  # fmt: skip
    made = collator(target=decoder_masking("alignment", start_id=2))
    assert made.follow == "marked"
    assert made([pair])["decoder_input_ids"].tolist() == [[2, 11, MASK, MASK, MASK]]
    marks = made.plan([pair])[1].batch.marks
    assert marks is not None
    # one span for each source token: 6 is said by two words
    assert marks.to_lists() == [[0, 3, 3, 4, 0]]
    given = pair | {"target_marks": [4, 0, 0, 0, 0]}
    del given["alignments"]
    assert made([given])["decoder_input_ids"].tolist() == [[2, MASK, 12, 13, 14]]


def test_what_is_aligned_with_masked_source_tokens_is_masked():
    pairs = [row | {"alignments": [[1, 0], [2, 1], [3, 1]]} for row in PAIRS]
    made = collator(source=HALF, target=decoder_masking("alignment", start_id=2))
    batch = made(pairs)
    hidden = batch["input_ids"] == MASK
    assert torch.equal(batch["decoder_input_ids"][:, 1] == MASK, hidden[:, 1])
    second = (hidden[:, 2] | hidden[:, 3]) & batch["decoder_attention_mask"][:, 2].bool()
    assert torch.equal(batch["decoder_input_ids"][:, 2] == MASK, second)
    assert (batch["decoder_input_ids"][:, 3:] != MASK).all()


# -- the laws -------------------------------------------------------------------------------------

LAWFUL = ("random", "sparse", "span", "word-dropout", "cmlm", "position", "length")


@pytest.mark.parametrize("name", LAWFUL)
@settings(max_examples=8)
@given(order=st.permutations(range(len(PAIRS))), cut=st.integers(1, len(PAIRS)), left=st.booleans())
def test_a_mask_depends_on_its_sample_alone(name, order, cut, left):
    made = collator(source=HALF, target=decoder_masking(name, start_id=2), carry=True)
    wanted = rows_of(made(PAIRS))
    WORDS.padding_side = "left" if left else "right"
    try:
        chosen = [PAIRS[number] for number in order]
        batches = [made(part) for part in (chosen[:cut], chosen[cut:]) if part]
    finally:
        WORDS.padding_side = "right"
    assert {k: v for batch in batches for k, v in rows_of(batch).items()} == wanted
    shorter = batches[0]["input_ids"][batches[0]["attention_mask"].sum(1).argmin()]
    assert left or shorter[0] != 0


def test_any_number_of_workers_and_each_epoch_its_own():
    found = {}
    for workers in (0, 2):
        sampler = ClockedSampler(len(PAIRS), 5, seed=1)
        made = PairCollator(WORDS, source=HALF, target=HALF, decoder_start_id=2, seed=3, carry=True)
        loader = DataLoader(
            with_sample_ids(PAIRS), 5, sampler=sampler, num_workers=workers, collate_fn=made
        )
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            rows = {k: v for batch in loader for k, v in rows_of(batch).items()}
            found[workers, epoch] = rows
    assert found[0, 0] == found[2, 0]
    assert found[0, 1] == found[2, 1]
    assert found[0, 0] != found[0, 1]
    samples = [Sample(row, row["sample_id"], Clock(0, 1, 4)) for row in PAIRS]
    assert rows_of(collator(source=HALF, target=HALF, carry=True)(samples)) == found[0, 1]
