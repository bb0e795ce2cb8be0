"""An experiment on a folder that `maskwright prepare` wrote."""

from __future__ import annotations

import pytest

from maskwright.data import corpus as tokenising
from maskwright.data.prepare import Settings, Source, prepare
from maskwright.errors import ConfigError
from maskwright.lab import compare as room
from maskwright.lab.evaluate import evaluate
from maskwright.lab.replay import replay
from maskwright.lab.text import corpus_of, tokenizer_of
from maskwright.lab.train import train
from tests.data.prepare.texts import small_tokenizer
from tests.lab import tiny


@pytest.fixture(scope="module")
def folder(text, tmp_path_factory):
    """Of the same text that other tests train on."""
    out = tmp_path_factory.mktemp("prepared") / "tokens"
    small_tokenizer().save_pretrained(out.parent / "tokenizer")
    prepare(Source(str(text)), small_tokenizer(), out, Settings(max_length=32, shard_tokens=1500))
    return out


def on(source, **data):
    given = {"source": str(source), "max_length": 32} | data
    return tiny.experiment(
        source,
        data=given,
        warmup=None,
        regimes=[{"name": "once", "tokens": 500, "steps": 4}],
        evaluation={"tokens": 400, "every": 4},
        seeds=[0],
    )


@pytest.fixture
def no_tokenising(monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("a prepared text is tokenised again")

    monkeypatch.setattr(tokenising, "_tokenise", forbidden)


def test_compare_gives_what_it_gives_of_the_text(folder, text, tmp_path, here, monkeypatch):
    named = on(text, tokenizer=str(folder.parent / "tokenizer"))
    expected = room.compare(named, tmp_path / "text")
    with monkeypatch.context() as patch:
        patch.setattr(tokenising, "_tokenise", None)  # it would fail
        results = room.compare(on(folder), tmp_path / "prepared")
    for one in ("documents", "tokens"):
        assert results["data"][one] == expected["data"][one]
    assert results["vocabulary"] == expected["vocabulary"]
    assert results["evaluation"] == expected["evaluation"]  # the same held-out positions
    assert results["data"]["fingerprint"] != expected["data"]["fingerprint"]
    for mine, other in zip(results["regimes"], expected["regimes"], strict=True):
        for a, b in zip(mine["policies"], other["policies"], strict=True):
            assert a["summary"] == b["summary"]
            assert [run["final"] for run in a["runs"]] == [run["final"] for run in b["runs"]]


def test_train_evaluate_and_replay_know_it(folder, tmp_path, no_tokenising):
    out = tmp_path / "model"
    train(on(folder), out, policy="dynamic", steps=2)
    assert evaluate(out).reproduced
    assert len(replay(out, 1).positions)


def test_another_tokenizer_is_refused_and_its_own_is_not(folder, tmp_path):
    named = on(folder, tokenizer=str(folder.parent / "tokenizer"))
    corpus = corpus_of(named.data)
    assert len(tokenizer_of(named.data, corpus)) == len(small_tokenizer())
    other = small_tokenizer().train_new_from_iterator(["another text"], 60)
    other.save_pretrained(tmp_path / "other")
    wrong = on(folder, tokenizer=str(tmp_path / "other"))
    with pytest.raises(ConfigError, match=r"is not the tokenizer that .*tokens was prepared with"):
        train(wrong, tmp_path / "model", policy="dynamic", steps=1)


def test_shorter_samples_are_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"Set data\.max_length=32, or prepare"):
        train(on(folder, max_length=16), tmp_path / "model", policy="dynamic", steps=1)
