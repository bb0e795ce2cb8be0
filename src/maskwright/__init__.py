"""maskwright: masks for training Transformers.

Which tokens a model must guess, as values that compose and that are the same on every machine.
"""

from maskwright import errors, schedule
from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.corruption import (
    Dynamic,
    EverySteps,
    Keep,
    Mask,
    Masking,
    MaskPlan,
    Random,
    Rotating,
    Static,
    Tokens,
    mlm,
    recipe,
)
from maskwright.ragged import Ragged
from maskwright.vocabulary import Vocabulary

__version__ = "0.1.0"

__all__ = [
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
