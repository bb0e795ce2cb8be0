"""Gates trained jointly with their model in `MaskingTrainer`: replayed, resumed, within budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import TrainingArguments

from maskwright.hf import MaskingTrainer
from maskwright.hf.interaction.interaction_mask import InteractionMask
from maskwright.hf.pairs.collator import PairCollator
from maskwright.lab.bench.words import word_tokenizer
from maskwright.schedule import Linear
from tests.hf.attachment.models import VOCABULARY, make


def _samples(count: int = 16) -> list[dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(3)
    found = []
    for number in range(count):
        ids = torch.randint(5, VOCABULARY, (3 + number % 6,), generator=generator).tolist()
        found.append({"input_ids": ids, "labels": [*reversed(ids), 2]})
    return found


def _trainer(folder: Path, steps: int = 6, per: Any = "head", **options: Any) -> Any:
    model = make("marian")
    mask = InteractionMask(
        model, per=per, budget=Linear(0.8, 0.3), learning_rate=0.2, start=1.0, seed=1
    )
    batch = options.pop("batch", 4)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=batch,
        learning_rate=1e-3,
        weight_decay=0.1,
        lr_scheduler_type="constant",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        logging_steps=1,
        dataloader_pin_memory=False,
        **{"save_strategy": "no", **options.pop("arguments", {})},
    )
    collator = PairCollator(word_tokenizer(VOCABULARY), model=model)
    trainer = MaskingTrainer(model, arguments, collator, _samples(), further=mask, **options)
    return trainer, mask


def _state(model: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in found.items():
        # the gradient of a key's bias is 0 up to rounding, which Adam makes a whole step of
        if not name.endswith("k_proj.bias"):
            torch.testing.assert_close(value, expected[name], atol=5e-5, rtol=1e-3, msg=name)


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_gates_have_a_group_of_their_own(tmp_path: Path) -> None:
    trainer, mask = _trainer(tmp_path)
    optimizer = trainer.create_optimizer()
    own = {id(p) for p in mask.parameters()}
    rates = [
        (group["lr"], group["weight_decay"], {id(p) in own for p in group["params"]})
        for group in optimizer.param_groups
    ]
    assert rates == [(1e-3, 0.1, {False}), (1e-3, 0.0, {False}), (0.2, 0.0, {True})]
    assert trainer.create_optimizer() is optimizer
    counted = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(counted) == sorted({id(p) for p in trainer.model.parameters() if p.requires_grad})


@pytest.mark.parametrize("per", ["head", "pair"])
def test_a_run_resumes_bit_for_bit(tmp_path: Path, per: str) -> None:
    save: dict[str, Any] = {
        "arguments": {"save_strategy": "steps", "save_steps": 3, "save_total_limit": 3}
    }
    whole, mask = _trainer(tmp_path / "whole", per=per, **save)
    whole.train()
    expected = _state(whole.model)
    assert float(mask.multiplier) > 0
    resumed, other = _trainer(tmp_path / "resumed", per=per, **save)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert _equal(_state(resumed.model), expected)
    assert float(other.multiplier) == float(mask.multiplier)
    logs = [one for one in whole.state.log_history if "loss" in one]
    assert logs[-1]["gates/budget"] == pytest.approx(0.8 - 0.5 * 5 / 6)
    assert ("gates/open" in logs[-1]) == (per == "head")


def test_the_penalty_counts_once_in_a_step(tmp_path: Path) -> None:
    """Two micro-batches of 4 as one batch of 8: the same gates, the same penalty."""
    one, _ = _trainer(tmp_path / "one", steps=2, batch=8)
    two, _ = _trainer(tmp_path / "two", steps=2, arguments={"gradient_accumulation_steps": 2})
    one.train()
    two.train()
    _close(_state(two.model), _state(one.model))


def test_mask_aware_steps_do_the_same(tmp_path: Path) -> None:
    from maskwright.hf import MaskAware

    plain, _ = _trainer(tmp_path / "plain", steps=2)
    aware, _ = _trainer(tmp_path / "aware", steps=2, mask_aware=MaskAware(dtype=None))
    plain.train()
    aware.train()
    assert aware._mask_aware.acceleration.refusal is None
    assert aware._mask_aware.head is not None
    _close(_state(aware.model), _state(plain.model))


def test_the_callback_may_be_given_too(tmp_path: Path) -> None:
    trainer, mask = _trainer(tmp_path, steps=1)
    assert trainer.callback_handler.callbacks.count(mask.callback) == 1
