import math

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from maskwright.clock import Clock
from maskwright.data import build_table
from maskwright.errors import ConfigError, DataError, VocabularyError
from maskwright.evaluation.heldout import HeldOut, Scores
from maskwright.evaluation.masks import EVALUATION_MASKS, evaluation_masking
from maskwright.evaluation.unigram import unigram_scores
from maskwright.vocabulary import Vocabulary
from tests.core.tokenizers import unigram, words

SIZE = 60


def documents(number=9):
    return [
        " ".join(f"w{5 + (row * 7 + 3 * place) % 50}" for place in range(9 + 4 * row))
        for row in range(number)
    ]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "t.arrow"
    return build_table(documents(), words(SIZE), max_length=12, path=path, split="validation")


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary.from_tokenizer(words(SIZE))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return BertForMaskedLM(
        BertConfig(
            vocab_size=SIZE, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=16, max_position_embeddings=16,
        )
    )  # fmt: skip


def slow_scores(held_out, table, model):
    """One sample, one position at a time, with the full head and no padding."""
    sums: dict[int, list[float]] = {}
    model = model.eval()
    for batch in held_out.batches:
        for row in range(len(batch.input_ids)):
            length = int(batch.attention_mask[row].sum())
            with torch.no_grad():
                logits = model(input_ids=batch.input_ids[row : row + 1, :length]).logits[0]
            for place in range(length):
                target = int(batch.labels[row, place])
                if target != -100:
                    score = logits[place].double()
                    one = sums.setdefault(place_of(held_out, sums), [0.0, 0, 0])
                    one[0] += float(score.logsumexp(0) - score[target])
                    one[1] += int(score.argmax()) == target
                    one[2] += 1
    return sums


def place_of(held_out, sums):
    """The document of the position that comes next."""
    return int(held_out.documents[sum(one[2] for one in sums.values())])


def test_sums_are_those_of_a_slow_loop_over_positions(table, vocabulary, model):
    held_out = HeldOut.build(table, vocabulary, batch_size=4)
    fast, slow = held_out.score(model), slow_scores(held_out, table, model)
    assert fast.documents.tolist() == sorted(slow)
    assert fast.count.tolist() == [slow[d][2] for d in fast.documents]
    assert fast.correct.tolist() == [slow[d][1] for d in fast.documents]
    assert np.allclose(fast.loss, [slow[d][0] for d in fast.documents], rtol=1e-6)


def test_the_batch_size_does_not_matter(table, vocabulary, model):
    one, many = (HeldOut.build(table, vocabulary, batch_size=size).score(model) for size in (1, 32))
    assert one.documents.tolist() == many.documents.tolist()
    assert one.correct.tolist() == many.correct.tolist()
    assert np.abs(one.loss / one.count - many.loss / many.count).max() < 1e-6


def test_the_document_of_a_position_is_that_of_its_sample(table, vocabulary):
    held_out = HeldOut.build(table, vocabulary, batch_size=4)
    masking = evaluation_masking("random-15").bind(vocabulary)
    expected = []
    for sample in range(len(table)):
        plan = masking.plan(table.batch(np.array([sample])), Clock(seed=0x6D61736B))
        expected += [int(table.documents[sample])] * len(plan.positions)
    assert held_out.documents.tolist() == expected


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_and_its_gradients_are_as_before(table, vocabulary, model, training):
    model.train(training)
    HeldOut.build(table, vocabulary).score(model)
    assert model.training is training
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_dropout_is_off_so_scores_repeat(table, vocabulary, model):
    held_out = HeldOut.build(table, vocabulary)
    model.train()
    first, second = held_out.score(model), held_out.score(model)
    assert first.loss.tolist() == second.loss.tolist()


@pytest.mark.parametrize("name, share", [("random-15", 0.15), ("random-40", 0.40)])
def test_a_share_of_each_sample_is_masked_and_nothing_else(table, vocabulary, name, share):
    held_out = HeldOut.build(table, vocabulary, masks=name)
    for batch in held_out.batches:
        chosen = batch.labels != -100
        assert (batch.input_ids[chosen] == vocabulary.mask_id).all()
        assert not (batch.input_ids[~chosen] == vocabulary.mask_id).any()
        for length, count in zip(batch.attention_mask.sum(1), chosen.sum(1), strict=True):
            exact = share * int(length)  # this tokenizer puts no special tokens round a text
            assert max(1, math.floor(exact)) <= int(count) <= max(1, math.ceil(exact))


def test_the_positions_are_frozen(table, vocabulary):
    """A change of seed, policy or draw would silently change published figures."""
    assert HeldOut.build(table, vocabulary).fingerprint == "fc3b83837cee1178"
    assert HeldOut.build(table, vocabulary, masks="random-40").fingerprint != "fc3b83837cee1178"


def test_fewer_tokens_are_spread_over_the_split(table, vocabulary):
    half = HeldOut.build(table, vocabulary, tokens=int(table.lengths.sum()) // 2)
    assert 0.3 < len(half.documents) / len(HeldOut.build(table, vocabulary).documents) < 0.7
    assert len(set(half.documents.tolist())) > len(documents()) // 2
    assert len(HeldOut.build(table, vocabulary, tokens=1).batches[0].input_ids) == 1


def test_the_targets_are_in_the_order_of_the_documents(table, vocabulary):
    held_out = HeldOut.build(table, vocabulary, batch_size=3)
    assert len(held_out.targets) == len(held_out.documents)
    assert vocabulary.maskable[held_out.targets].all()


def test_unknown_masks(table, vocabulary):
    with pytest.raises(ConfigError, match="Did you mean 'random-15'"):
        HeldOut.build(table, vocabulary, masks="random-51")
    assert all(str(masking.refresh) == "static" for masking in EVALUATION_MASKS.values())


def test_a_tokenizer_without_a_mask_token(tmp_path):
    path = tmp_path / "t.arrow"
    table = build_table(["a mask hides words"], unigram(), max_length=12, path=path, split="test")
    with pytest.raises(VocabularyError, match="no mask token"):
        HeldOut.build(table, Vocabulary.from_tokenizer(unigram()))


def test_nothing_but_unknown_words(tmp_path, vocabulary):
    path = tmp_path / "t.arrow"
    table = build_table(["alpha beta gamma"], words(SIZE), max_length=12, path=path, split="test")
    with pytest.raises(DataError, match="special tokens only"):
        HeldOut.build(table, vocabulary)


def test_means_are_per_position():
    scores = Scores(np.array([0, 4]), np.array([2.0, 7.0]), np.array([1, 2]), np.array([1, 5]))
    assert scores.mean == {"loss": 1.5, "perplexity": math.exp(1.5), "accuracy": 0.5}


def test_a_hopeless_perplexity_is_no_overflow():
    scores = Scores(np.array([0]), np.array([1e6]), np.array([0]), np.array([1]))
    assert math.isfinite(scores.mean["perplexity"])


# -- the unigram baseline -----------------------------------------------------------------


def test_unigram_by_hand(tmp_path):
    """``w5`` is seen 5 times, ``w6`` 2 times, and w7 … w9 never: of 7 + 5 counts, one added each,
    they have 6, 3 and 1."""
    tokenizer = words(10)
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    train, test = (
        build_table(texts, tokenizer, max_length=8, path=tmp_path / f"{name}.arrow", split=name)
        for name, texts in (("train", ["w5 w5 w5 w6", "w5 w6 w5"]), ("test", ["w5", "w6", "w9"]))
    )
    held_out = HeldOut.build(test, vocabulary)  # at least one position of each
    scores = unigram_scores(train, vocabulary, held_out)
    assert scores.documents.tolist() == [0, 1, 2]
    assert np.allclose(scores.loss, -np.log([6 / 12, 3 / 12, 1 / 12]))
    assert scores.correct.tolist() == [1, 0, 0]
    assert scores.count.tolist() == [1, 1, 1]
