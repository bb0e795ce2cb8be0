"""Token masks: which tokens a model must guess."""

from maskwright.corruption.act import Act, Keep, Mask, Mixture, Random
from maskwright.corruption.emit import MaskedBatch, mlm
from maskwright.corruption.masking import Masking
from maskwright.corruption.plan import Action, MaskPlan
from maskwright.corruption.recipes import RECIPES, recipe
from maskwright.corruption.refresh import Dynamic, EverySteps, Refresh, Rotating, Static
from maskwright.corruption.select import Select, Tokens

__all__ = [
    "RECIPES",
    "Act",
    "Action",
    "Dynamic",
    "EverySteps",
    "Keep",
    "Mask",
    "MaskPlan",
    "MaskedBatch",
    "Masking",
    "Mixture",
    "Random",
    "Refresh",
    "Rotating",
    "Select",
    "Static",
    "Tokens",
    "mlm",
    "recipe",
]
