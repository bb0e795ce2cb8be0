"""The model under the masks of a variant, whichever they are."""

from __future__ import annotations

from typing import Any

from maskwright.errors import ConfigError
from maskwright.lab.translate.config import Variant
from maskwright.lab.translate.masked import Masked
from maskwright.lab.translate.preparation import PreparedPairs


def open_masked(model: Any, variant: Variant, prepared: PreparedPairs, *, seed: int) -> Masked:
    """The model with its masks, ready for training.

    Raises:
        ConfigError: the two masks do not go together.
        ModelError: the masks do not go with the model.
    """
    if variant.decoder.iterative and variant.cross.learned:
        raise ConfigError(
            "A model that fills masks (cmlm) does not train with gates that are learned. Use one "
            "of the two, or a pattern as the cross mask."
        )
    if variant.decoder.iterative:
        from maskwright.lab.translate.filling import FillingMasked

        return FillingMasked(model, variant, prepared, seed=seed)
    if variant.cross.learned:
        from maskwright.lab.translate.learned import LearnedMasked

        return LearnedMasked(model, variant, prepared, seed=seed)
    return Masked(model, variant, prepared, seed=seed)
