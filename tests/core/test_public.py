"""What `import maskwright` gives, and what it does not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

import maskwright

HEAVY = ["transformers", "tokenizers", "datasets", "numba", "pyarrow", "scipy", "matplotlib"]


def loaded_after(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*(m for m in {HEAVY} if m in sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_import_loads_nothing_heavy():
    assert loaded_after("import maskwright") == set()


def test_the_look_at_loaded_modules_can_fail():
    assert "numba" in loaded_after("import maskwright.corruption.kernels")


def test_the_core_works_without_the_extras():
    blocked = "; ".join(f"sys.modules[{name!r}] = None" for name in HEAVY if name != "numba")
    program = f"""import sys; {blocked}
import numpy as np, maskwright as mw, maskwright.errors
masking = mw.recipe("roberta", mw.Vocabulary(size=9, mask_id=0, pad_id=1))
batch = mw.TokenBatch(mw.Ragged.from_lists([[2, 3], [4]]), np.array([0, 1]))
assert mw.mlm(masking.plan(batch)).input_ids.shape == (2, 2)
for use in ("import maskwright.hf", "batch.tokens.to_arrow()"):
    try:
        exec(use)
    except mw.errors.MissingExtra as error:
        print(error)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count('pip install "maskwright[hf]"') == 2


def test_public_names_are_pinned():
    assert sorted(maskwright.__all__) == [
        "Clock",
        "Dynamic",
        "EverySteps",
        "Keep",
        "Mask",
        "MaskPlan",
        "Masking",
        "Ragged",
        "Random",
        "Rotating",
        "Static",
        "TokenBatch",
        "Tokens",
        "Vocabulary",
        "errors",
        "mlm",
        "recipe",
        "schedule",
    ]
    assert all(hasattr(maskwright, name) for name in maskwright.__all__)


def test_public_names_of_the_hf_room_are_pinned():
    hf = pytest.importorskip("maskwright.hf")
    assert sorted(hf.__all__) == [
        "Acceleration",
        "Attachment",
        "ClockCallback",
        "ClockedIndex",
        "ClockedSampler",
        "ConditionalMaskedLM",
        "CrossMaps",
        "GateBudget",
        "Guidance",
        "InteractionMask",
        "LearnedMasking",
        "LengthHead",
        "MaskAware",
        "MaskingCollator",
        "MaskingTrainer",
        "PairCollator",
        "PerPredictedToken",
        "ReplacedTokenDetection",
        "Sample",
        "ScheduledSampling",
        "ScoreThreshold",
        "SealedCheckpoints",
        "TiedReplacedTokenDetection",
        "TokenBudget",
        "TokenBudgetSampler",
        "TokenDropping",
        "TopScores",
        "VisibleOnly",
        "Written",
        "accelerate_model",
        "alignments_from_attention",
        "attach",
        "block_decode",
        "conditional",
        "cross_attention_maps",
        "detach",
        "latest_checkpoint",
        "linear_cross_entropy",
        "mask_predict",
        "predicted_only",
        "prune",
        "simultaneous_generate",
        "simultaneous_stream",
        "with_sample_ids",
    ]
