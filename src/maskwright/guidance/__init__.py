"""Guidance: scores that steer the next mask, where they come from and where they wait."""

from maskwright.guidance.probes import (
    attention_received,
    embedding_gradient_norm,
    entropy,
    margin,
    token_losses,
)
from maskwright.guidance.reader import FromTokens, KnownScores, Scorer, ScoreReader
from maskwright.guidance.statistic_scores import InverseDocumentFrequency, PairInformation
from maskwright.guidance.statistics import TokenStatistics, count_tokens
from maskwright.guidance.store import ScoreStore

__all__ = [
    "FromTokens",
    "InverseDocumentFrequency",
    "KnownScores",
    "PairInformation",
    "ScoreReader",
    "ScoreStore",
    "Scorer",
    "TokenStatistics",
    "attention_received",
    "count_tokens",
    "embedding_gradient_norm",
    "entropy",
    "margin",
    "token_losses",
]
