"""Hugging Face: a collator in place of theirs, and a Trainer that pays for predicted tokens."""

from maskwright.errors import MissingExtra

try:
    import transformers  # noqa: F401
except ImportError:
    raise MissingExtra("transformers", "hf") from None

from maskwright.hf.attachment.attach import Attachment, attach, detach
from maskwright.hf.collator import MaskingCollator
from maskwright.hf.guided.callback import Guidance
from maskwright.hf.guided.learned import LearnedMasking
from maskwright.hf.head import predicted_only
from maskwright.hf.replaced.detection import ReplacedTokenDetection
from maskwright.hf.samples import ClockedIndex, ClockedSampler, Sample, with_sample_ids
from maskwright.hf.trainer import ClockCallback, MaskingTrainer

__all__ = [
    "Attachment",
    "ClockCallback",
    "ClockedIndex",
    "ClockedSampler",
    "Guidance",
    "LearnedMasking",
    "MaskingCollator",
    "MaskingTrainer",
    "ReplacedTokenDetection",
    "Sample",
    "attach",
    "detach",
    "predicted_only",
    "with_sample_ids",
]
