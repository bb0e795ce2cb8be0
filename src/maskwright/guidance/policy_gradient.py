"""How a masking policy learns: REINFORCE on the masks that were drawn, and what came of them.

The masks were drawn by the published parameters, the gradient is of those of now; between the two
stands the ratio of their probabilities, clipped as in PPO (1707.06347). Right after a `publish` the
ratio is 1 and the estimate is that of REINFORCE, unbiased: its baseline is of earlier batches.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskwright.errors import ConfigError
from maskwright.guidance.learned import LearnedPolicy
from maskwright.guidance.successive import log_probability
from maskwright.ragged import Ragged

_LEAST_SPREAD = 1e-3  # nats: rewards that differ by less are alike


def difficulty(losses: Ragged, bound: float) -> np.ndarray:
    """The mean loss of each sample's predicted tokens, each at most ``bound``; ``(B,)``.

    NaN where nothing was predicted. ``losses`` are NaN where a token was not.
    """
    return _means(losses.like(np.minimum(losses.values, bound)))


def learning_progress(losses: Ragged, before: Ragged, bound: float) -> np.ndarray:
    """How far the loss fell since a sample was here last, ``(B,)``, each token within ± ``bound``.

    The mean over tokens that were predicted now and have a loss from before; NaN without any.
    """
    return _means(losses.like(np.clip(before.values - losses.values, -bound, bound)))


def surrogate(now: Tensor, drawn: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """What the gradient ascends, ``(B,)``.

    Args:
        now: ``(B,)`` log-probabilities of the masks under the parameters that learn.
        drawn: ``(B,)`` the same under those that drew them.
        advantage: ``(B,)``.
        clip: ratios of the two beyond ``1 ± clip`` gain nothing more.
    """
    ratio = (now - drawn.detach()).exp()
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


class PolicyGradient:
    """One optimizer, and a moving baseline, for one policy.

    It draws nothing: the same batches give the same parameters, bit for bit, for one number of
    threads.

    Args:
        policy: that learns; it draws by what it learned once it is published.
        learning_rate: of Adam.
        entropy: weight of the entropy (nats) of the first draw, which keeps it from collapsing.
        pull: weight of KL(uniform ‖ first draw), which keeps every token in reach. KL the other
            way round would be the entropy once more.
        clip: of `surrogate`.
        momentum: of the mean and the spread of rewards.

    Raises:
        ConfigError: a setting is outside its rule.
    """

    def __init__(
        self,
        policy: LearnedPolicy,
        *,
        learning_rate: float = 1e-2,
        entropy: float = 0.0,
        pull: float = 0.01,
        clip: float = 0.2,
        momentum: float = 0.95,
    ) -> None:
        for name, value in (("learning_rate", learning_rate), ("entropy", entropy), ("pull", pull)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"PolicyGradient: {name} must be at least 0, got {value}.")
        if not 0 < clip < 1 or not 0 <= momentum < 1:
            raise ConfigError(
                "PolicyGradient: clip must be between 0 and 1, momentum from 0 to less than 1; "
                f"got {clip} and {momentum}."
            )
        self.policy = policy
        self.entropy, self.pull = entropy, pull
        self.clip, self.momentum = clip, momentum
        self._optimizer = torch.optim.Adam(policy.scorer.parameters(), lr=learning_rate)
        self._moments: tuple[float, float] | None = None
        self.updates = 0

    def step(
        self,
        tokens: Ragged,
        candidates: np.ndarray,
        chosen: np.ndarray,
        rewards: np.ndarray,
        scores: Ragged | None = None,
        power: float = 1.0,
    ) -> dict[str, float]:
        """Learn from masks that the published policy drew; the first rewards are a baseline only.

        Args:
            tokens: ``B`` rows, ``N`` tokens in all.
            candidates: ``(N,)`` bool, what might have been drawn.
            chosen: ``(N,)`` bool, what was.
            rewards: ``(B,)``; NaN where there is none.
            scores: what the policy read of the tokens.
            power: to which weights were raised before the draw: ``1 / T`` of `Weighted`'s
                temperature, negative at its low end.

        Raises:
            BatchError: something was drawn that is no candidate.
        """
        kept = np.flatnonzero(~np.isnan(rewards))
        if not len(kept):
            return {}
        gains = torch.from_numpy(rewards[kept].astype(np.float64))
        known, self._moments = self._moments, self._after(gains)
        found = {"policy/reward": float(gains.mean())}
        if known is None:
            return found
        spread = max(math.sqrt(max(known[1] - known[0] ** 2, 0.0)), _LEAST_SPREAD)
        rows = tokens.take(kept)
        rows_scores = None if scores is None else scores.take(kept)
        there = _padded(tokens.like(candidates).take(kept), False)
        hit = _padded(tokens.like(chosen).take(kept), False)
        before = power * _padded(self.policy.logits(rows, rows_scores), 0.0)
        # the model's own precision is no matter of this network
        with torch.enable_grad(), torch.autocast("cpu", enabled=False):
            flat = power * self.policy.scorer.logits(rows, rows_scores).double()
            place = torch.from_numpy(rows.rows), torch.from_numpy(rows.positions)
            logits = torch.zeros(there.shape, dtype=torch.float64).index_put(place, flat)
            gained = surrogate(
                log_probability(logits, there, hit),
                log_probability(before, there, hit),
                (gains - known[0]) / spread,
                self.clip,
            )
            entropy, pull = _spread(logits, there)
            loss = -gained.mean() - self.entropy * entropy.mean() + self.pull * pull.mean()
            self._optimizer.zero_grad()
            loss.backward()
        self._optimizer.step()
        self.updates += 1
        return {**found, "policy/entropy": float(entropy.detach().mean())}

    def _after(self, gains: Tensor) -> tuple[float, float]:
        new = float(gains.mean()), float(gains.square().mean())
        if self._moments is None:
            return new
        kept = self.momentum
        old = self._moments
        return (
            kept * old[0] + (1 - kept) * new[0],
            kept * old[1] + (1 - kept) * new[1],
        )

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, the published parameters with it."""
        return {
            "scorer": self.policy.scorer.state_dict(),
            "published": dict(self.policy.published),
            "version": self.policy.version,
            "optimizer": self._optimizer.state_dict(),
            "moments": self._moments,
            "updates": self.updates,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Put `state` back."""
        self.policy.scorer.load_state_dict(state["scorer"])
        self.policy.put_back(state["published"], state["version"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._moments = state["moments"]
        self.updates = state["updates"]


def _means(rows: Ragged) -> np.ndarray:
    known = ~np.isnan(rows.values)
    counts = np.bincount(rows.rows[known], minlength=len(rows))
    sums = np.bincount(rows.rows[known], rows.values[known], minlength=len(rows))
    return np.where(counts, sums / np.maximum(counts, 1), np.nan)


def _padded(rows: Ragged, fill: Any) -> Tensor:
    padded = rows.to_padded(fill)
    return padded.double() if padded.is_floating_point() else padded


def _spread(logits: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Entropy of the first draw, and KL(uniform ‖ first draw), ``(B,)`` each, in nats."""
    counts = candidates.sum(1).clamp_min(1)
    # rows without candidates would be NaN, and so would their gradients
    empty = ~candidates.any(1, keepdim=True)
    shares = logits.masked_fill(~candidates & ~empty, -1e9).log_softmax(1)
    shares = shares.masked_fill(~candidates, 0.0)
    entropy = -(shares.exp() * shares).sum(1)
    return entropy, -counts.log() - shares.sum(1) / counts
