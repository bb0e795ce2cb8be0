"""Local attention and fast rotary positions take a tiny ModernBERT off the unigram plateau."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.harness import Row
from maskwright.lab.settings import load
from maskwright.lab.train import train

SETTINGS = {
    "a window of 8, theta 20": [],
    "full attention, theta 20": ["model.window=128"],
    "a window of 8, theta 10,000": ["model.rope_theta=10000"],
    "full attention, theta 10,000": ["model.window=128", "model.rope_theta=10000"],
}


def run(quick: bool) -> list[Row]:
    """Held-out loss of the quick preset's model after 400 steps of 1,024 tokens, one seed."""
    steps = 20 if quick else 400
    losses = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, changes) in enumerate(SETTINGS.items()):
            experiment = load(preset="quick", changes=[*changes, f"evaluation.every={steps}"])
            out = Path(folder) / str(number)
            losses[name] = train(experiment, out, policy="dynamic", steps=steps)["final"]["loss"]
    ours, *others = losses
    bar = None if quick else 1.1
    return [
        Row(
            f"held-out loss: {ours}, against {other}",
            losses[ours],
            losses[other],
            losses[other] / losses[ours],
            bar if other == others[-1] else None,
            "nats",
            None if bar is None or other != others[-1] else losses[other] / losses[ours] >= bar,
            f"after {steps} steps; seed 0",
        )
        for other in others
    ]
