"""The commands that show masks: recipes, preview of each, replay of a past batch."""

from __future__ import annotations

import pytest

from maskwright.corruption import RECIPES

TEXT = "The state of the union is strong. We thank you for inviting us to the party last week."


def test_every_recipe_is_listed_with_its_paper(command):
    ended = command("recipes", width=160)
    assert ended.status == 0
    for name, recipe in RECIPES.items():
        assert name in ended.out
        assert recipe.paper.split(",")[0] in " ".join(ended.out.split())


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_seen(command, name):
    ended = command("preview", "--recipe", name, "--text", TEXT, "--epochs", 1, width=200)
    assert ended.status == 0
    assert "epoch 0" in ended.out
    marks = {"t5": "<extra_id_0>", "ul2": "<extra_id_0>", "fim": "<|fim_middle|>"}
    shown = "".join(ended.out.split())
    assert marks.get(name, "→" if RECIPES[name].emit != "mlm" else "[MASK]") in shown or (
        name == "mdlm" and "[MASK]" in shown
    )


def test_policies_that_learn_are_shown_as_they_begin(command, file):
    names = "pmi,learned,electra,loss"
    ended = command("preview", file, "--policies", names, "--text", TEXT, width=200)
    assert ended.status == 0
    for name in names.split(","):
        assert name in ended.out
    assert "[MASK]" in ended.out


def test_an_unknown_recipe(command):
    ended = command("preview", "--recipe", "spanbrt", "--text", TEXT)
    assert (ended.status, ended.out) == (2, "")
    assert "Unknown recipe 'spanbrt'. Did you mean 'spanbert'?" in ended.err


def test_replay_shows_a_past_batch(command, file, tmp_path):
    assert command("train", file, "--steps", 3, "--out", tmp_path / "m").status == 0
    ended = command("replay", tmp_path / "m", "--step", 2)
    assert ended.status == 0
    assert "epoch 0, step 2" in ended.out
    assert "[MASK]" in ended.out
    assert command("replay", tmp_path / "m", "--step", 2).out == ended.out
    assert command("replay", tmp_path / "m", "--step", 1).out != ended.out


def test_replay_of_no_run(command, tmp_path):
    ended = command("replay", tmp_path, "--step", 0)
    assert ended.status == 2
    assert ended.err.startswith("maskwright: ")
    assert "Traceback" not in ended.err
