"""Everything that can be wrong: status 2, a message that begins with ``maskwright:``, no traceback,
and nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest
import yaml

from maskwright.data.cache import cache_root
from tests.core.tokenizers import unigram, words
from tests.lab import tiny


def refused(ended, *parts):
    """Checks the form of a refusal, and that each of ``parts`` is in its message."""
    assert ended.status == 2, ended
    assert ended.out == ""
    lines = ended.err.splitlines()
    message = next(line for line in lines if line.startswith("maskwright: "))
    assert "Traceback" not in ended.err
    assert 'File "' not in ended.err
    assert len(lines) <= 3
    for part in parts:
        assert part in ended.err
    return message


def with_text(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return f"data.source={path}"


# -- text -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, content, parts",
    [
        ("t.txt", "", ["no text", "1 empty document dropped"]),
        ("t.txt", "\n \n\n\t\n", ["no text"]),
        ("t.jsonl", '{"text": ""}\n{"text": null}\n', ["no text", "2 empty documents dropped"]),
        ("t.jsonl", '{"body": "a"}\n', ["Unknown column 'text'", "body"]),
        ("t.jsonl", "{\n", ["line 1 is not JSON"]),
        ("t.txt", b"\xff\xfe\xff", ["not UTF-8"]),
        ("t.pdf", "a", ["Unknown file type '.pdf'"]),
        ("t.txt", "one single document", ["no documents in its validation split"]),
        ("t.txt", None, ["No file or folder"]),
    ],
)
def test_text_that_cannot_be_used(command, file, tmp_path, name, content, parts):
    source = tmp_path / "texts" / name
    source.parent.mkdir()
    if content is None:
        setting = f"data.source={source}"
    else:
        setting = with_text(source, content)
    for verb, out in (("compare", tmp_path / "a"), ("train", tmp_path / "b")):
        refused(command(verb, file, "--set", setting, "--out", out), *parts)
        assert tiny.contents(out) == {} if out.exists() else True


def test_empty_documents_are_dropped_and_counted(command, file, tmp_path):
    rows = [json.dumps({"text": text}) for text in tiny.sentences(90)]
    rows[3:3] = ['{"text": ""}', '{"text": "  "}', '{"text": null}']
    setting = with_text(tmp_path / "t.jsonl", "\n".join(rows))
    ended = command("compare", file, "--set", setting, "--out", tmp_path / "out")
    assert ended.status == 0
    assert "3 empty documents dropped." in ended.err


def test_a_text_of_special_tokens_only(command, file, tmp_path):
    words(60).save_pretrained(tmp_path / "tokenizer")
    setting = with_text(
        tmp_path / "t.txt", "\n\n".join(f"[PAD] unknown{row} [SEP]" for row in range(90))
    )
    ended = command(
        "compare", file, "--set", setting, "--set", f"data.tokenizer={tmp_path / 'tokenizer'}",
        "--out", tmp_path / "out",
    )  # fmt: skip
    refused(ended, "special tokens only", "data.tokenizer")
    assert tiny.contents(tmp_path / "out") == {}


def test_too_little_text_for_the_regimes(command, file, tmp_path):
    ended = command("compare", file, "--set", "regimes.a.tokens=9000000", "--out", tmp_path / "out")
    refused(ended, "9,000,512 tokens", "Lower regimes.*.tokens")


# -- models and tokenizers -------------------------------------------------------------------


def test_a_tokenizer_without_a_mask_token(command, file, tmp_path):
    unigram().save_pretrained(tmp_path / "tokenizer")
    setting = f"data.tokenizer={tmp_path / 'tokenizer'}"
    for verb in ("compare", "train"):
        out = tmp_path / verb
        refused(command(verb, file, "--set", setting, "--out", out), "has no mask token")
        assert not out.exists() or tiny.contents(out) == {}
    refused(
        command("preview", "--tokenizer", tmp_path / "tokenizer", "--text", "a mask"),
        "has no mask token",
    )


def test_a_sample_longer_than_the_model(command, file, tmp_path):
    from transformers import BertConfig, BertForMaskedLM

    model = tmp_path / "model"
    BertForMaskedLM(
        BertConfig(
            vocab_size=80, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=16, max_position_embeddings=16,
        )
    ).save_pretrained(model)  # fmt: skip
    out = tmp_path / "out"
    ended = command("compare", file, "--set", f"model.pretrained={model}", "--out", out)
    refused(ended, "data.max_length=32", "(16)", "Use data.max_length=16 or less")
    assert not (out / "results.json").exists()
    assert tiny.half_written(out) == []


@pytest.mark.parametrize("key", ["data.tokenizer", "model.pretrained"])
def test_a_model_that_is_not_there(command, file, tmp_path, key):
    ended = command("train", file, "--set", f"{key}=no/such", "--out", tmp_path / "out")
    refused(ended, "can be loaded from no/such")
    assert not (tmp_path / "out").exists()


def test_a_packaged_model_that_was_not_fetched(command, file, tmp_path, monkeypatch):
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "cache"))
    ended = command("train", file, "--set", "model.pretrained=package:minilm", "--out", "out")
    refused(ended, "Run: maskwright data get minilm")
    refused(command("train", file, "--set", "data.source=wikitext2"), "data get wikitext2")
    refused(command("data", "get", "minlm"), "Did you mean 'minilm'")


# -- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (["--set", "policies.static.rate=1.5"], ["policies.static: A mask rate", "got 1.5"]),
        (["--set", "policies.static.rate=-0.1"], ["got -0.1"]),
        (["--set", "policies.static.rte=0.1"], ["Did you mean 'policies.static.rate'"]),
        (["--policies", "static,dynamc"], ["Unknown policy 'dynamc'. Did you mean 'dynamic'"]),
        (["--preset", "quik"], ["Did you mean 'quick'"]),
        (["--seeds", "0"], ["at least 1, got 0"]),
        (["--set", "evaluation.masks=random-51"], ["Did you mean 'random-15'"]),
        (["--set", "model.heads=3"], ["width 32 cannot have 3 heads"]),
    ],
)
def test_settings_outside_their_rule(command, file, tmp_path, arguments, parts):
    refused(command("compare", file, *arguments, "--out", tmp_path / "out"), *parts)
    assert not (tmp_path / "out" / "results.json").exists()


def test_an_unknown_policy_to_train_and_an_unknown_recipe(command, file, tmp_path):
    ended = command("train", file, "--policy", "dynamc", "--out", tmp_path / "out")
    refused(ended, "Did you mean 'dynamic'")
    assert not (tmp_path / "out").exists()
    refused(command("preview", "--recipe", "brt", "--text", "a"), "Did you mean 'bert'")


@pytest.mark.parametrize(
    "content, part", [("", "is empty"), ("a: [", "is not YAML"), (None, "No such file")]
)
def test_a_file_that_is_no_experiment(command, tmp_path, content, part):
    file = tmp_path / "bad.yaml"
    if content is not None:
        file.write_text(content)
    refused(command("compare", file, "--out", tmp_path / "out"), part)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["comprae"], ["compare", "--polices", "a"], ["compare", "--seeds", "two"], ["evaluate"],
        ["preview", "--epochs", "0"], ["train", "--seed", "-1"],
    ],
)  # fmt: skip
def test_wrong_usage(command, arguments):
    ended = command(*arguments)
    assert (ended.status, ended.out) == (2, "")
    assert "Traceback" not in ended.err
    assert "Usage: maskwright" in ended.err


def test_a_text_with_nothing_to_mask_to_preview(command, file):
    refused(command("preview", file, "--text", ""), "no token to mask")


# -- caches, folders and disks --------------------------------------------------------------------


def test_a_corrupt_cached_table_is_built_again_with_a_note(command, file, tmp_path, monkeypatch):
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "cache"))
    command("compare", file, "--out", tmp_path / "a")
    for table in cache_root().rglob("train.arrow"):
        table.write_bytes(table.read_bytes()[:100])
    ended = command("compare", file, "--out", tmp_path / "b")
    assert ended.status == 0
    assert "Building a cached table again" in ended.err
    assert "Traceback" not in ended.err


def test_a_corrupt_cached_tokenizer_says_what_to_delete(command, file, tmp_path, monkeypatch):
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "cache"))
    command("compare", file, "--out", tmp_path / "a")
    for path in cache_root().rglob("tokenizer.json"):
        path.write_text("{")
    refused(command("compare", file, "--out", tmp_path / "b"), "cached tokenizer", "Delete")


def test_an_out_that_is_a_file(command, file, tmp_path):
    (tmp_path / "out").write_text("mine")
    for verb in ("compare", "train"):
        refused(command(verb, file, "--out", tmp_path / "out"), "--out")
        refused(command(verb, file, "--out", tmp_path / "out" / "below"), "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_folder_of_somebody_else(command, file, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    before = tiny.contents(tmp_path / "out")
    refused(command("train", file, "--out", tmp_path / "out"), "thesis.tex", "--out")
    assert tiny.contents(tmp_path / "out") == before


def test_other_settings_in_the_folder_of_a_comparison(command, file, tmp_path):
    out = tmp_path / "out"
    command("compare", file, "--out", out)
    before = tiny.contents(out)
    ended = command("compare", file, "--out", out, "--set", "training.learning_rate=1e-4")
    refused(ended, "(training.learning_rate)", "--out")
    assert tiny.contents(out) == before


def test_a_full_disk(command, file, tmp_path, monkeypatch):
    from transformers import PreTrainedModel

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    for verb in ("compare", "train"):
        ended = command(verb, file, "--out", tmp_path / verb)
        message = refused(ended, "No space left on device", "nothing was left half-written")
        assert "cannot be written" in message
        assert not list((tmp_path / verb).rglob("run.json"))
        assert tiny.half_written(tmp_path) == []


def test_a_damaged_record_of_a_run(command, file, tmp_path):
    out = tmp_path / "out"
    command("compare", file, "--out", out)
    (out / "runs/a/static/seed-0/run.json").write_text("{")
    refused(command("compare", file, "--out", out), "run.json is damaged", "Delete it")
    refused(command("evaluate", out / "runs/a/static/seed-0"), "run.json is damaged")


def test_folders_that_cannot_be_evaluated(command, file, tmp_path):
    refused(command("evaluate", tmp_path / "none"), "There is no folder")
    refused(command("evaluate", tmp_path), "has no run.json", "--data")
    refused(command("evaluate", tmp_path, "--data", "state-of-the-union"), "can be loaded")
    refused(command("evaluate", tmp_path, "--masks", "random-51"), "Did you mean 'random-15'")


def test_a_text_that_changed_since(command, file, tmp_path):
    settings = yaml.safe_load(file.read_text())
    moved = shutil.copy(settings["data"]["source"], tmp_path / "t.txt")
    out = tmp_path / "out"
    command("train", file, "--set", f"data.source={moved}", "--steps", 1, "--out", out)
    tiny.write_text(tmp_path / "t.txt", tiny.sentences(90, start=9))
    refused(command("evaluate", out), "have changed since")
