"""Evaluation masks: frozen and named, so that every policy is judged on the same positions."""

from __future__ import annotations

from maskwright.corruption import Mask, Masking, Static
from maskwright.errors import ConfigError, unknown

# The seed of all evaluation masks. Changing it, or a policy below, changes published figures.
SEED = 0x6D61736B

EVALUATION_MASKS: dict[str, Masking] = {
    # Mask token only: a kept or random token would measure something else as well.
    "random-15": Masking(rate=0.15, act=Mask(), refresh=Static(), exact=True, at_least=1),
    "random-40": Masking(rate=0.40, act=Mask(), refresh=Static(), exact=True, at_least=1),
}


def evaluation_masking(name: str) -> Masking:
    """The evaluation masks called ``name``."""
    if name not in EVALUATION_MASKS:
        raise ConfigError(unknown("evaluation masks", name, EVALUATION_MASKS))
    return EVALUATION_MASKS[name]
