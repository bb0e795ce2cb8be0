"""A realistic results file made by formulas: 2 regimes x 4 policies x 3 seeds."""

import math
from typing import Any

import pytest

POLICIES = {
    # name: (description, loss lost or won in the regimes, rate)
    "dynamic": ("drawn anew every epoch, rate 0.30", (0.0, 0.0), 0.30),
    "static": ("drawn once, rate 0.30", (0.004, 2.31), 0.30),
    "rotating": ("one of four drawings in turn, rate 0.30", (-0.002, 0.118), 0.30),
    "rate-40": ("drawn anew every epoch, rate 0.40", (-0.061, -0.043), 0.40),
}
SENTENCE = (
    "The| state| of| our| union| is| strong| because| our| people| are| strong|,| and| to|night|"
    " we| resume| an| unbroken| tradition| of| reporting| to| the| Congress|."
)


def held_out_loss(regime: int, shift: float, seed: int, progress: float) -> float:
    """Falls from 5.1; a large shift overfits: down first, then far up."""
    base = 4.71 if regime == 0 else 4.16
    noise = 0.012 * math.sin(1.7 + 5 * seed + 9 * progress + 40 * shift)
    learned = base + (5.1 - base) * math.exp(-4 * progress)
    return learned + shift * progress**2 + noise * min(1.0, 8 * progress) + 0.011 * seed


def estimate(values: list[float], half: float) -> dict[str, float | None]:
    mean = sum(values) / len(values)
    return {"mean": mean, "low": mean - half, "high": mean + half}


def make_run(regime: int, name: str, seed: int, steps: int, epochs: float) -> dict[str, Any]:
    _, shifts, rate = POLICIES[name]
    history = []
    for point in range(16):
        progress = point / 15
        loss = held_out_loss(regime, shifts[regime], seed, progress)
        history.append(
            {
                "step": round(steps * progress),
                "epoch": epochs * progress,
                "loss": loss,
                "accuracy": 0.5 * math.exp(-loss / 2.5),
            }
        )
    loss = history[-1]["loss"]
    seconds = steps * (0.056 + 0.004 * rate + 0.0007 * seed)
    tokens = steps * 1024
    return {
        "seed": seed,
        "history": history,
        "training": [
            {"step": 10, "loss": 5.2, "learning_rate": 0.003, "predicted": round(10240 * rate)}
        ],
        "final": {
            "loss": loss,
            "perplexity": math.exp(loss),
            "accuracy": history[-1]["accuracy"],
        },
        "cost": {
            "seconds": seconds,
            "tokens": tokens,
            "predicted_tokens": round(tokens * rate),
            "tokens_per_second": tokens / seconds,
        },
    }


def make_policy(regime: int, name: str, steps: int, epochs: float) -> dict[str, Any]:
    runs = [make_run(regime, name, seed, steps, epochs) for seed in range(3)]
    finals = {
        key: [run["final"][key] for run in runs] for key in ("loss", "perplexity", "accuracy")
    }
    mean_loss = sum(finals["loss"]) / 3
    return {
        "name": name,
        "description": POLICIES[name][0],
        "runs": runs,
        "summary": {
            "loss": estimate(finals["loss"], 0.065),
            "perplexity": estimate(finals["perplexity"], 0.065 * math.exp(mean_loss)),
            "accuracy": estimate(finals["accuracy"], 0.0042),
        },
        "cost": {
            key: sum(run["cost"][key] for run in runs) / 3
            for key in ("seconds", "tokens", "predicted_tokens", "tokens_per_second")
        },
    }


def make_difference(policy: dict, reference: dict, metric: str) -> dict[str, Any]:
    per_seed = [
        mine["final"][metric] - theirs["final"][metric]
        for mine, theirs in zip(policy["runs"], reference["runs"], strict=True)
    ]
    spread = max(per_seed) - min(per_seed)
    values = estimate(per_seed, spread + (0.004 if metric == "loss" else 0.0008))
    sign = 1 if metric == "accuracy" else -1
    if values["low"] <= 0 <= values["high"]:
        verdict = "no difference"
    else:
        verdict = "better" if sign * values["mean"] > 0 else "worse"
    return {
        "policy": policy["name"],
        "reference": reference["name"],
        "metric": metric,
        "per_seed": per_seed,
        **values,
        "confidence": 0.95,
        "verdict": verdict,
    }


def make_regime(index: int) -> dict[str, Any]:
    steps, epochs = ((375, 1.0), (1500, 40.0))[index]
    policies = [make_policy(index, name, steps, epochs) for name in POLICIES]
    return {
        "name": ("fresh", "repeated")[index],
        "title": ("Text seen once", "A small text, seen many times")[index],
        "explanation": (
            "Every token is read once, as in a large pre-training run. A mask that never changes "
            "cannot be told from one that does, because no sentence comes back.",
            "A small text is read forty times, as in adaptation to a domain. Here a mask that "
            "never changes shows the model the same questions again and again.",
        )[index],
        "tokens": steps * 1024,
        "epochs": epochs,
        "steps": steps,
        "reference": "dynamic",
        "policies": policies,
        "differences": [
            make_difference(policy, policies[0], metric)
            for metric in ("loss", "accuracy")
            for policy in policies[1:]
        ],
        "verdict": (
            "Static and rotating masks cost nothing on text seen once; a rate of 40% helped a "
            "little (−0.06 nats).",
            "On repeated text a static mask ruins the model (+2.31 nats over dynamic); rotating "
            "four masks loses little, and a rate of 40% is best.",
        )[index],
    }


def make_example(name: str) -> dict[str, Any]:
    shown = []
    for epoch in range(3):
        drawing = 0 if name == "static" else epoch
        tokens = []
        for place, text in enumerate(SENTENCE.split("|")):
            draw = (7 * place * place + 11 * place + 5 * drawing + 3 * drawing * place) % 10
            if draw >= (4 if name == "rate-40" else 3):
                tokens.append({"text": text, "state": "untouched"})
            elif (place + drawing) % 7 == 0:
                tokens.append({"text": " war", "state": "random", "original": text})
            elif (place + drawing) % 7 == 3:
                tokens.append({"text": text, "state": "kept", "original": text})
            else:
                tokens.append({"text": "[MASK]", "state": "masked", "original": text})
        shown.append({"epoch": epoch, "tokens": tokens})
    return {"policy": name, "epochs": shown}


def make_results() -> dict[str, Any]:
    return {
        "format": "maskwright.results/1",
        "created": "2026-11-21T22:10:00Z",
        "command": "maskwright compare --preset quick",
        "versions": {
            "maskwright": "0.1.0",
            "torch": "2.13.0",
            "transformers": "5.23.0",
            "python": "3.11.7",
        },
        "machine": {"processor": "AMD EPYC", "cores": 2, "threads_per_run": 1, "workers": 2},
        "experiment": {
            "preset": "quick",
            "seeds": [0, 1, 2],
            "model": {"kind": "modernbert", "layers": 3, "width": 128, "heads": 4},
            "policies": {
                "dynamic": {"rate": 0.30, "refresh": "epoch"},
                "static": {"rate": 0.30, "refresh": "never"},
            },
            "optimiser": {"learning_rate": 0.003, "betas": [0.9, 0.98], "weight_decay": 0.01},
            "resume": None,
        },
        "model": {"name": "modernbert 3x128", "parameters": 612345},
        "vocabulary": {"size": 512},
        "data": {
            "name": "state-of-the-union",
            "licence": "public domain",
            "documents": {"train": 190, "validation": 20, "test": 20},
            "tokens": {"train": 4000000, "validation": 412345, "test": 398765},
        },
        "evaluation": {
            "masks": "random-15",
            "split": "validation",
            "documents": 20,
            "predicted": 12345,
            "fingerprint": "9f3c51d2a07be844",
        },
        "unigram": {"loss": 5.65, "perplexity": 284.3, "accuracy": 0.0512},
        "warmup": {"steps": 400, "policy": "dynamic"},
        "regimes": [make_regime(0), make_regime(1)],
        "examples": [make_example(name) for name in POLICIES],
        "verdict": (
            "Change the mask on every pass over the text, and mask 40%: static masks cost nothing "
            "on text seen once but 2.31 nats on text seen forty times."
        ),
        "seconds": 341.2,
    }


@pytest.fixture
def results() -> dict[str, Any]:
    """A fresh copy for each test, free to be changed."""
    return make_results()
