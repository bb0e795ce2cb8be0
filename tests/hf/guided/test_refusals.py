"""Runs that cannot be guided are refused before they begin, with what to change."""

from __future__ import annotations

import pytest
from transformers import DataCollatorForLanguageModeling, Trainer

from maskwright import Masking
from maskwright.corruption import Above
from maskwright.errors import ConfigError
from maskwright.guidance import ScoreStore
from maskwright.hf import Guidance
from tests.core import tokenizers
from tests.hf import tiny
from tests.hf.guided.runs import LENGTHS, ROWS, prepare, train


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"collator": {"carry": False}}, "carry=True"),
        ({"guided": False}, "scores=store"),
        ({"policy": Masking(select=Above(0.5)), "guidance": {"spike": 2.0}}, "Cautious"),
        (
            {"guidance": {"spike": 2.0}, "dataloader_num_workers": 16},
            "masks would depend on their number",
        ),
        ({"torch_compile": True}, "torch_compile"),
        (
            {"eval_strategy": "epoch", "evaluated": tiny.samples(5)},
            "Use MaskingTrainer",
        ),
        ({"label_smoothing_factor": 0.1, "guidance": {"source": "loss"}}, "Use MaskingTrainer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_plain_run_that_cannot_be_guided_is_refused(settings, said, tmp_path):
    run = prepare(tmp_path, "plain", **settings)
    with pytest.raises(ConfigError, match=said):
        run.trainer.train()


def test_cautious_selects_may_be_paused(tmp_path):
    run = train(tmp_path, "ours", epochs=1, policy="attention-threshold", guidance={"spike": 2.0})
    assert len(run.losses) == 6


def test_another_collator_is_named(tmp_path):
    store = ScoreStore.create(tmp_path / "scores", LENGTHS)
    trainer = Trainer(
        tiny.model(),
        tiny.arguments(tmp_path),
        DataCollatorForLanguageModeling(tokenizers.words()),
        train_dataset=ROWS,
        callbacks=[Guidance(store)],
    )
    with pytest.raises(ConfigError, match="got DataCollatorForLanguageModeling"):
        trainer.train()


def test_sources_are_checked(tmp_path):
    store = ScoreStore.create(tmp_path / "scores", LENGTHS)
    with pytest.raises(ConfigError, match="Did you mean 'loss'"):
        Guidance(store, "losses")
