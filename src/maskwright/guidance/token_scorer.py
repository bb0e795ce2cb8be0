"""The network of a learned masking policy: what it is told of a token, and the logit it gives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from maskwright.errors import ConfigError, unknown
from maskwright.ragged import Ragged
from maskwright.randomness import mix_array

FEATURES = 4
_SCORES = ("none", "loss", "attention")
_LENGTH = 64.0  # tokens: a text of this length is halfway between the shortest and the longest


@dataclass(frozen=True)
class PolicySettings:
    """The form of a policy.

    Args:
        vocabulary: number of token ids.
        rows: of the embedding table; fewer than ids share them by a hash. One an id unless given.
        width: of an embedding.
        hidden: units.
        score: of what kind the scores are that it reads beside the tokens: ``"loss"`` (nats),
            ``"attention"`` (a share of the sample's), or ``"none"``.
        bound: logits stay within ± this, so a weight is at most ``exp(2 * bound)`` times another:
            every token can be drawn at each visit.
        seed: of the first embeddings. The first weights are all alike: it begins with chance.

    Raises:
        ConfigError: a setting is outside its rule.
    """

    vocabulary: int
    rows: int | None = None
    width: int = 16
    hidden: int = 16
    score: Literal["none", "loss", "attention"] = "none"
    bound: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.score not in _SCORES:
            raise ConfigError(unknown("score of PolicySettings", self.score, _SCORES))
        for name in ("vocabulary", "rows", "width", "hidden"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"PolicySettings: {name} must be at least 1, got {value}.")
        if not 0 < self.bound <= 20:
            raise ConfigError(
                f"PolicySettings: bound must be above 0 and at most 20, got {self.bound}."
            )

    @cached_property
    def row_of(self) -> np.ndarray:
        """The row of each token id in the table, ``(vocabulary,)`` int64."""
        ids = np.arange(self.vocabulary, dtype=np.int64)
        if self.rows is None or self.rows >= self.vocabulary:
            return ids
        return (mix_array(ids.astype(np.uint64)) % np.uint64(self.rows)).astype(np.int64)

    def features(self, tokens: Ragged, scores: Ragged | None) -> np.ndarray:
        """``(N, 4)`` float32: place in the text, its length, the score, whether there is one.

        Every number is exact arithmetic on one token: the same in any batch.
        """
        lengths = np.repeat(tokens.lengths, tokens.lengths).astype(np.float32)
        out = np.zeros((len(lengths), FEATURES), np.float32)
        out[:, 0] = tokens.positions / np.maximum(lengths - 1, 1)
        out[:, 1] = lengths / (lengths + np.float32(_LENGTH))
        if scores is not None and self.score != "none":
            known = ~np.isnan(scores.values)
            value = np.where(known, scores.values, 0).astype(np.float32)
            if self.score == "attention":
                value = value * lengths  # 1 where attention is spread evenly
            out[:, 2] = value / (1 + np.abs(value))
            out[:, 3] = known
        return out


class TokenScorer(nn.Module):
    """Embedding and features of a token → one logit. N tokens; float32."""

    def __init__(self, settings: PolicySettings) -> None:
        super().__init__()
        self.settings = settings
        generator = torch.Generator().manual_seed(settings.seed)
        rows = int(settings.row_of.max()) + 1 if settings.rows is None else settings.rows
        rows = min(rows, settings.vocabulary)

        def normal(*shape: int, scale: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator) * scale)

        self.table = normal(rows, settings.width, scale=1.0)
        self.mixed = normal(settings.width, settings.hidden, scale=settings.width**-0.5)
        self.direct = normal(FEATURES, settings.hidden, scale=FEATURES**-0.5)
        self.shift = nn.Parameter(torch.zeros(settings.hidden))
        self.out = nn.Parameter(torch.zeros(settings.hidden))

    def forward(self, rows: Tensor, features: Tensor) -> Tensor:
        """``(N,)`` rows of the table and ``(N, 4)`` features → ``(N,)`` logits."""
        table = nn.functional.embedding(rows, self.table)
        hidden = (table @ self.mixed + features @ self.direct + self.shift).relu()
        value = hidden @ self.out
        return self.settings.bound * value / (1 + value.abs())

    def logits(self, tokens: Ragged, scores: Ragged | None) -> Tensor:
        """Of each token, ``(N,)``."""
        rows = self.settings.row_of[tokens.values]
        features = self.settings.features(tokens, scores)
        return self(torch.from_numpy(rows), torch.from_numpy(features))
