"""The loss of masked diffusion is an unbiased estimate of its bound, per token."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from maskwright import Clock, recipe
from maskwright.hf import MaskingCollator, MaskingTrainer, Sample
from tests.core import tokenizers
from tests.hf import tiny

TOKENS = [17, 42, 8, 63]
ROW = {"input_ids": [2, *TOKENS, 3]}  # two of six tokens can never be masked
DRAWS = 20_000


def losses_of_every_mask(model) -> dict[tuple[bool, ...], float]:
    """The summed cross-entropy of the masked tokens, for each of the 16 masks."""
    masks = list(itertools.product([False, True], repeat=len(TOKENS)))
    ids = torch.tensor([ROW["input_ids"]]).repeat(len(masks), 1)
    chosen = torch.tensor(masks)
    ids[:, 1:-1][chosen] = tokenizers.words().mask_token_id
    with torch.no_grad():
        logits = model(ids, attention_mask=torch.ones_like(ids)).logits[:, 1:-1]
    targets = torch.tensor(TOKENS).expand(len(masks), -1)
    each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    sums = (each * chosen).sum(1).tolist()
    return dict(zip(masks, sums, strict=True))


def bound(model) -> float:
    """The integral over t of 1/t times the expected loss of a mask at the rate t, per token.

    The integrand is a polynomial of degree 3, which Gauss's rule of 8 points integrates exactly.
    """
    points, weights = np.polynomial.legendre.leggauss(8)
    total = 0.0
    for t, weight in zip((points + 1) / 2, weights / 2, strict=True):
        for mask, loss in losses_of_every_mask(model).items():
            many = sum(mask)
            total += weight / t * t**many * (1 - t) ** (len(mask) - many) * loss
    return total / len(TOKENS)


def spread_model():
    """A tiny model whose losses differ from token to token and from mask to mask."""
    model = tiny.model().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    return model


@pytest.mark.parametrize("narrow", [True, False])
def test_its_mean_over_draws_is_the_bound(narrow, tmp_path):
    """One mean over 20,000 draws of t and of the mask.

    The standard deviation of one draw is about 1.5 times the bound (6.9 = ln 1000 of the mean of
    1/t, over 4 tokens), so the error of the mean is 1.1%, and 5% is more than four of them.
    Division by the number of predicted tokens would give twice the bound.
    """
    model = spread_model()
    collator = MaskingCollator(tokenizers.words(), recipe("mdlm"), seed=3)
    trainer = MaskingTrainer(model, tiny.arguments(tmp_path), collator, predicted_only=narrow)
    samples = [Sample(ROW, i, Clock(0, 0, 0)) for i in range(DRAWS)]
    batch = trainer.data_collator(samples)
    with torch.no_grad():
        loss = trainer.compute_loss(model, dict(batch)).item()
    wanted = bound(model)
    assert loss == pytest.approx(wanted, rel=0.05)
    predicted = int(batch["labels"].ne(-100).sum())
    wrong = loss * DRAWS * len(TOKENS) / predicted
    assert wrong > 1.5 * wanted


def test_it_is_divided_by_what_might_have_been_masked(tmp_path):
    """Not by special tokens, protected ones, those without a label, or padding."""
    collator = MaskingCollator(tokenizers.words(), recipe("mdlm"), seed=3)
    model = tiny.model().eval()
    trainer = MaskingTrainer(model, tiny.arguments(tmp_path), collator)
    rows = [
        {"input_ids": [2, 10, 11, 12, 13, 3], "labels": [-100, -100, 11, 12, 13, -100]},
        {"input_ids": [2, 14, 3], "labels": [-100, 14, -100]},
    ]
    batch = trainer.data_collator([Sample(row, i, Clock(0, 0, 0)) for i, row in enumerate(rows)])
    counted = trainer._get_num_items_in_batch([batch, batch], torch.device("cpu"))
    assert int(counted) == 8
    alone = trainer.compute_loss(model, dict(batch))
    shared = trainer.compute_loss(model, dict(batch), num_items_in_batch=8)
    torch.testing.assert_close(alone, 2 * shared)


def test_other_policies_are_divided_by_what_is_predicted(tmp_path):
    collator = MaskingCollator(tokenizers.words(), recipe("roberta"), seed=3)
    trainer = MaskingTrainer(tiny.model(), tiny.arguments(tmp_path), collator)
    samples = [Sample(row, i, Clock(0, 0, 0)) for i, row in enumerate(tiny.samples(8))]
    batch = trainer.data_collator(samples)
    counted = trainer._get_num_items_in_batch([batch], torch.device("cpu"))
    assert int(counted) == int(batch["labels"].ne(-100).sum()) > 0
