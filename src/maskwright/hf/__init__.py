"""Hugging Face: a collator in place of theirs, and a Trainer that pays for predicted tokens."""

from maskwright.errors import MissingExtra

try:
    import transformers  # noqa: F401
except ImportError:
    raise MissingExtra("transformers", "hf") from None

from maskwright.hf.attachment.attach import Attachment, attach, detach
from maskwright.hf.batches.token_budget import TokenBudget, TokenBudgetSampler
from maskwright.hf.collator import MaskingCollator
from maskwright.hf.compute.acceleration import Acceleration, accelerate_model
from maskwright.hf.compute.linear_cross_entropy import linear_cross_entropy
from maskwright.hf.compute.mask_aware import MaskAware
from maskwright.hf.guided.callback import Guidance
from maskwright.hf.guided.learned import LearnedMasking
from maskwright.hf.head import predicted_only
from maskwright.hf.learning_rate import PerPredictedToken
from maskwright.hf.recovery.checkpoints import latest_checkpoint
from maskwright.hf.recovery.sealed_checkpoints import SealedCheckpoints
from maskwright.hf.replaced.detection import ReplacedTokenDetection
from maskwright.hf.replaced.tied import TiedReplacedTokenDetection
from maskwright.hf.samples import ClockedIndex, ClockedSampler, Sample, with_sample_ids
from maskwright.hf.trainer import ClockCallback, MaskingTrainer

__all__ = [
    "Acceleration",
    "Attachment",
    "ClockCallback",
    "ClockedIndex",
    "ClockedSampler",
    "Guidance",
    "LearnedMasking",
    "MaskAware",
    "MaskingCollator",
    "MaskingTrainer",
    "PerPredictedToken",
    "ReplacedTokenDetection",
    "Sample",
    "SealedCheckpoints",
    "TiedReplacedTokenDetection",
    "TokenBudget",
    "TokenBudgetSampler",
    "accelerate_model",
    "attach",
    "detach",
    "latest_checkpoint",
    "linear_cross_entropy",
    "predicted_only",
    "with_sample_ids",
]
