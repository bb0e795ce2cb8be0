"""A saved model gives its recorded figure again, to the last bit, or says why not."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertModel, GPT2Config, GPT2LMHeadModel

from maskwright.errors import DataError, ModelError, ResultsError, VocabularyError
from maskwright.lab.config import Evaluation
from maskwright.lab.evaluate import evaluate
from maskwright.lab.model import longest_sample
from maskwright.lab.run import RUN_FILE
from maskwright.lab.train import train
from tests.core.tokenizers import unigram, words
from tests.lab import tiny

RUN = "runs/often/dynamic/seed-0"


@pytest.fixture
def copy(finished, tmp_path):
    """The folder of a run, free to be damaged."""
    return shutil.copytree(finished.out / RUN, tmp_path / "copy")


def bert(**changes):
    settings = {
        "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "max_position_embeddings": 40,
    }  # fmt: skip
    torch.manual_seed(0)
    return BertConfig(**(settings | changes))


@pytest.fixture
def foreign(tmp_path):
    """A model that maskwright did not train."""
    folder = tmp_path / "foreign"
    BertForMaskedLM(bert()).save_pretrained(folder)
    words(60).save_pretrained(folder)
    return folder


@pytest.fixture
def text_of_words(tmp_path):
    documents = [" ".join(f"w{5 + (7 * k + row) % 50}" for k in range(60)) for row in range(30)]
    return str(tiny.write_text(tmp_path / "w.txt", documents))


@pytest.mark.parametrize("name", ["warmup/seed-1", "runs/once/static/seed-0", RUN])
def test_the_recorded_floats_come_out_again(finished, name):
    found = evaluate(finished.out / name)
    assert found.recorded == json.loads((finished.out / name / RUN_FILE).read_text())["final"]
    assert found.scores == found.recorded
    assert found.reproduced


def test_another_figure_is_not_reproduced(copy):
    record = json.loads((copy / RUN_FILE).read_text())
    record["final"]["loss"] += 1e-12
    (copy / RUN_FILE).write_text(json.dumps(record))
    assert not evaluate(copy).reproduced


def test_other_weights_are_not_reproduced(copy, finished):
    other = finished.out / "runs/often/dynamic/seed-1/model.safetensors"
    shutil.copy(other, copy / "model.safetensors")
    assert not evaluate(copy).reproduced


def test_the_number_of_threads_is_that_of_the_training_and_is_put_back(copy):
    record = json.loads((copy / RUN_FILE).read_text())
    record["spec"]["threads"] = 2
    (copy / RUN_FILE).write_text(json.dumps(record))
    before = torch.get_num_threads()
    evaluate(copy)
    assert torch.get_num_threads() == before


def test_a_changed_text_is_an_error(copy, text, tmp_path):
    record = json.loads((copy / RUN_FILE).read_text())
    changed = tiny.write_text(tmp_path / "t.txt", tiny.sentences(90, start=5))
    record["data"]["source"] = str(changed)
    (copy / RUN_FILE).write_text(json.dumps(record))
    with pytest.raises(ResultsError, match=r"have changed since .*fingerprint"):
        evaluate(copy)


def test_a_text_that_was_moved_is_still_the_same(copy, text, tmp_path):
    moved = shutil.copy(text, tmp_path / "moved.txt")
    found = evaluate(copy, source=str(moved))
    assert found.recorded is not None
    assert found.reproduced


def test_a_relative_path_is_found_from_another_folder(text, tmp_path, monkeypatch):
    monkeypatch.chdir(text.parent)
    train(tiny.experiment(text.relative_to(text.parent)), tmp_path / "a", policy="static", steps=1)
    monkeypatch.chdir(tmp_path)
    assert evaluate(tmp_path / "a").reproduced


def test_another_text_or_other_masks_have_no_record(copy, text, tmp_path):
    other = tiny.write_text(tmp_path / "t.txt", tiny.sentences(90, start=5))
    assert evaluate(copy, source=str(other)).recorded is None
    masked = evaluate(copy, settings=Evaluation(masks="random-40"))
    assert masked.recorded is None
    assert masked.held_out.name == "random-40"
    assert masked.reproduced  # there is nothing to reproduce


def test_a_foreign_model_needs_a_text(foreign, text_of_words):
    with pytest.raises(ResultsError, match=r"no run\.json .*--data"):
        evaluate(foreign)
    found = evaluate(foreign, source=text_of_words)
    assert found.recorded is None
    assert 3 < found.scores["loss"] < 5  # random weights: about the logarithm of 60
    assert max(batch.input_ids.shape[1] for batch in found.held_out.batches) <= 40


def test_a_record_of_something_else(foreign):
    (foreign / RUN_FILE).write_text('{"spec": 1}')
    with pytest.raises(ResultsError, match="not the record of a training"):
        evaluate(foreign)


def test_no_such_folder(tmp_path):
    with pytest.raises(ResultsError, match="There is no folder"):
        evaluate(tmp_path / "nothing", source="state-of-the-union")


@pytest.mark.parametrize("content", [b"", b"\xff" * 500, None])
def test_damaged_weights(foreign, text_of_words, content):
    weights = foreign / "model.safetensors"
    weights.unlink()
    if content is not None:
        weights.write_bytes(content)
    with pytest.raises(ModelError, match="No masked language model can be loaded"):
        evaluate(foreign, source=text_of_words)


def test_a_damaged_tokenizer(foreign, text_of_words):
    (foreign / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match="No tokenizer can be loaded"):
        evaluate(foreign, source=text_of_words)


def test_an_encoder_without_its_head_would_score_at_random(foreign, text_of_words):
    BertModel(bert()).save_pretrained(foreign)
    with pytest.raises(ModelError, match=r"not a whole masked language model.*are missing"):
        evaluate(foreign, source=text_of_words)


def test_a_model_of_another_kind(foreign, text_of_words):
    GPT2LMHeadModel(
        GPT2Config(vocab_size=60, n_embd=16, n_layer=1, n_head=2, n_positions=40)
    ).save_pretrained(foreign)
    with pytest.raises(ModelError, match="No masked language model can be loaded"):
        evaluate(foreign, source=text_of_words)


def test_a_tokenizer_without_a_mask_token(foreign, tmp_path):
    unigram().save_pretrained(foreign)
    with pytest.raises(VocabularyError, match="no mask token"):
        evaluate(foreign, source=str(tiny.write_text(tmp_path / "t.txt", tiny.sentences(40))))


def test_a_tokenizer_that_does_not_know_the_script(foreign, tmp_path):
    other = tiny.write_text(tmp_path / "t.txt", [f"слово {k}" for k in range(30)])
    with pytest.raises(DataError, match="special tokens only"):
        evaluate(foreign, source=str(other))


def test_roberta_counts_positions_from_behind_its_padding_id():
    from transformers import RobertaConfig, RobertaForMaskedLM

    roberta = RobertaForMaskedLM(
        RobertaConfig(
            vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=16, max_position_embeddings=42,
        )
    ).eval()  # fmt: skip
    limit = longest_sample(roberta)
    assert limit == 40
    roberta(input_ids=torch.full((1, limit), 5))
    with pytest.raises((IndexError, RuntimeError)):
        roberta(input_ids=torch.full((1, limit + 1), 5))
    assert longest_sample(BertForMaskedLM(bert())) == 40
