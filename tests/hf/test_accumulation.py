"""Law 8: the gradient of a step does not depend on how its samples are cut into micro-batches."""

from __future__ import annotations

import pytest
import torch

from maskwright import Masking, recipe
from maskwright.hf import MaskingCollator, MaskingTrainer
from tests.core import tokenizers
from tests.hf import tiny

# Lengths of 8 to 22, so that micro-batches have quite different numbers of predicted tokens.
ROWS = tiny.samples(8)


class Gradients(MaskingTrainer):
    """Keeps the gradient of the one step that it takes."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.losses, self.counts = [], []

    def compute_loss(self, model, inputs, *args, **kwargs):
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        self.losses.append(loss.item())
        self.counts.append(int(inputs["labels"].ne(-100).sum()))
        return loss

    def _clip_grad_norm(self, model):
        self.gradients = {n: p.grad.clone() for n, p in model.named_parameters()}
        return super()._clip_grad_norm(model)


def one_step(
    path, batch: int, accumulation: int, *, narrow=True, rate=0.3, kind="bert", policy=None
):
    policy = Masking(rate=rate) if policy is None else policy
    collator = MaskingCollator(tokenizers.words(), policy, seed=2)
    made = Gradients(
        tiny.model(kind),
        tiny.arguments(
            path, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation,
            max_steps=1,
        ),
        collator,
        train_dataset=ROWS,
        predicted_only=narrow,
    )  # fmt: skip
    made.train()
    return made


def whole_batch(collator, kind="bert"):
    """The loss and gradients of the plain model on all samples at once."""
    from maskwright import Clock
    from maskwright.hf import Sample

    batch = collator([Sample(row, i, Clock(0, 0, 0)) for i, row in enumerate(ROWS)])
    model = tiny.model(kind)
    loss = model(**{k: batch[k] for k in ("input_ids", "attention_mask", "labels")}).loss
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("batch, accumulation", [(8, 1), (2, 4), (1, 8), (3, 3)])
def test_one_gradient_however_it_is_cut(batch, accumulation, narrow, kind, tmp_path):
    made = one_step(tmp_path, batch, accumulation, narrow=narrow, kind=kind)
    loss, gradients = whole_batch(made.data_collator, kind)
    assert len(made.losses) == accumulation
    assert sum(made.losses) == pytest.approx(loss, rel=1e-5)
    if accumulation > 1:
        assert len(set(made.counts)) > 1
    for name, gradient in gradients.items():
        torch.testing.assert_close(made.gradients[name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch, accumulation", [(8, 1), (2, 4), (3, 3)])
def test_one_gradient_of_masked_diffusion(batch, accumulation, tmp_path):
    """Weighed sums, divided by the tokens between [CLS] and [SEP] of all micro-batches."""
    from maskwright import Clock
    from maskwright.hf import Sample

    made = one_step(tmp_path, batch, accumulation, policy=recipe("mdlm"))
    whole = made.data_collator([Sample(row, i, Clock(0, 0, 0)) for i, row in enumerate(ROWS)])
    model = tiny.model()
    logits = model(whole["input_ids"], attention_mask=whole["attention_mask"]).logits
    each = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), whole["labels"], reduction="none"
    )
    loss = (each * whole["loss_weights"]).sum() / sum(len(row["input_ids"]) - 2 for row in ROWS)
    loss.backward()
    assert len(made.losses) == accumulation
    assert sum(made.losses) == pytest.approx(loss.item(), rel=1e-5)
    if accumulation > 1:
        assert len(set(made.counts)) > 1
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(made.gradients[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_the_mean_of_means_would_be_seen(tmp_path):
    """The comparison can fail: averaging micro-batches gives another loss."""
    made = one_step(tmp_path, 2, 4)
    loss, _ = whole_batch(made.data_collator)
    total = sum(made.counts)
    means = [one * total / count for one, count in zip(made.losses, made.counts, strict=True)]
    assert sum(means) / 4 != pytest.approx(loss, rel=1e-5)


def test_a_step_that_predicts_nothing(tmp_path):
    made = one_step(tmp_path, 2, 4, rate=0.0)
    assert made.losses == [0, 0, 0, 0]
    assert all((gradient == 0).all() for gradient in made.gradients.values())


def test_label_smoothing_is_that_of_transformers(tmp_path):
    from transformers.trainer_pt_utils import LabelSmoother

    collator = MaskingCollator(tokenizers.words(), Masking(rate=0.3, refresh="static"))
    model = tiny.model()
    made = MaskingTrainer(
        model, tiny.arguments(tmp_path, label_smoothing_factor=0.1), collator, ROWS
    )
    batch = collator([row | {"sample_id": i} for i, row in enumerate(ROWS)])
    ours = made.compute_loss(model, batch)
    plain = {k: batch[k] for k in ("input_ids", "attention_mask")}
    theirs = LabelSmoother(0.1)(model(**plain), batch["labels"])
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
