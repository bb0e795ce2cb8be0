"""Token masks: which tokens a model must guess."""

from maskwright.corruption.act import Act, Delete, Infill, Keep, Mask, Mixture, Random, Sentinel
from maskwright.corruption.emit import MaskedBatch, Mlm, mlm
from maskwright.corruption.masking import Masking
from maskwright.corruption.plan import Action, MaskPlan
from maskwright.corruption.rate import SampledRate
from maskwright.corruption.recipes import RECIPES, recipe
from maskwright.corruption.refresh import Coverage, Dynamic, EverySteps, Refresh, Rotating, Static
from maskwright.corruption.select import Select, Tokens

__all__ = [
    "RECIPES",
    "Act",
    "Action",
    "Coverage",
    "Delete",
    "Dynamic",
    "EverySteps",
    "Infill",
    "Keep",
    "Mask",
    "MaskPlan",
    "MaskedBatch",
    "Mlm",
    "Masking",
    "Mixture",
    "Random",
    "Refresh",
    "Rotating",
    "SampledRate",
    "Select",
    "Sentinel",
    "Static",
    "Tokens",
    "mlm",
    "recipe",
]
