"""Models that no library has, in the form of those of transformers."""

from maskwright.errors import MissingExtra

try:
    import transformers  # noqa: F401
except ImportError:
    raise MissingExtra("transformers", "hf") from None

from maskwright.models.lstm import (
    LstmForConditionalGeneration,
    LstmModel,
    LstmSeq2SeqConfig,
    LstmState,
)

__all__ = [
    "LstmForConditionalGeneration",
    "LstmModel",
    "LstmSeq2SeqConfig",
    "LstmState",
]
