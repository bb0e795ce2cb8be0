"""Attention masks: who may look at whom, as one readable expression that every backend runs."""

from maskwright.attention.axis import Axis
from maskwright.attention.blocks import EMPTY, FULL, PARTIAL, BlockMap
from maskwright.attention.pattern import Pattern, full, nothing, per_head
from maskwright.attention.relative import causal, window
from maskwright.attention.tokens import documents, padding

__all__ = [
    "Axis",
    "BlockMap",
    "EMPTY",
    "FULL",
    "PARTIAL",
    "Pattern",
    "causal",
    "documents",
    "full",
    "nothing",
    "padding",
    "per_head",
    "window",
]
