"""Translation: encoder–decoders trained with masks on decoder inputs and on cross-attention."""

from maskwright.errors import MissingExtra

try:
    import sacrebleu  # noqa: F401
except ImportError:
    raise MissingExtra("sacrebleu", "lab") from None
