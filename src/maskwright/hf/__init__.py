"""Hugging Face: a collator in place of theirs, and a Trainer that pays for predicted tokens."""

from maskwright.errors import MissingExtra

try:
    import transformers  # noqa: F401
except ImportError:
    raise MissingExtra("transformers", "hf") from None

from maskwright.hf.attachment.attach import Attachment, attach, detach
from maskwright.hf.attachment.score_gates import ScoreThreshold, TopScores
from maskwright.hf.batches.token_budget import TokenBudget, TokenBudgetSampler
from maskwright.hf.clock_callbacks import ClockCallback
from maskwright.hf.collator import MaskingCollator
from maskwright.hf.compute.acceleration import Acceleration, accelerate_model
from maskwright.hf.compute.linear_cross_entropy import linear_cross_entropy
from maskwright.hf.compute.mask_aware import MaskAware
from maskwright.hf.conditional.length_head import LengthHead
from maskwright.hf.conditional.mask_predict import block_decode, mask_predict
from maskwright.hf.conditional.model import ConditionalMaskedLM, conditional
from maskwright.hf.guided.callback import Guidance
from maskwright.hf.guided.learned import LearnedMasking
from maskwright.hf.head import predicted_only
from maskwright.hf.interaction.alignments import alignments_from_attention
from maskwright.hf.interaction.budget import GateBudget
from maskwright.hf.interaction.cross_maps import CrossMaps, cross_attention_maps
from maskwright.hf.interaction.interaction_mask import InteractionMask
from maskwright.hf.interaction.prune import prune
from maskwright.hf.learning_rate import PerPredictedToken
from maskwright.hf.pairs.collator import PairCollator
from maskwright.hf.pairs.scheduled_sampling import ScheduledSampling
from maskwright.hf.recovery.checkpoints import latest_checkpoint
from maskwright.hf.recovery.sealed_checkpoints import SealedCheckpoints
from maskwright.hf.replaced.detection import ReplacedTokenDetection
from maskwright.hf.replaced.tied import TiedReplacedTokenDetection
from maskwright.hf.samples import ClockedIndex, ClockedSampler, Sample, with_sample_ids
from maskwright.hf.simultaneous.generate import (
    Written,
    simultaneous_generate,
    simultaneous_stream,
)
from maskwright.hf.token_dropping.dropping import TokenDropping
from maskwright.hf.trainer import MaskingTrainer
from maskwright.hf.visible_only.model import VisibleOnly

__all__ = [
    "Acceleration",
    "Attachment",
    "ClockCallback",
    "ClockedIndex",
    "ClockedSampler",
    "ConditionalMaskedLM",
    "CrossMaps",
    "GateBudget",
    "Guidance",
    "InteractionMask",
    "LearnedMasking",
    "LengthHead",
    "MaskAware",
    "MaskingCollator",
    "MaskingTrainer",
    "PairCollator",
    "PerPredictedToken",
    "ReplacedTokenDetection",
    "Sample",
    "ScheduledSampling",
    "ScoreThreshold",
    "SealedCheckpoints",
    "TiedReplacedTokenDetection",
    "TokenBudget",
    "TokenBudgetSampler",
    "TokenDropping",
    "TopScores",
    "VisibleOnly",
    "Written",
    "accelerate_model",
    "alignments_from_attention",
    "attach",
    "block_decode",
    "conditional",
    "cross_attention_maps",
    "detach",
    "latest_checkpoint",
    "linear_cross_entropy",
    "mask_predict",
    "predicted_only",
    "prune",
    "simultaneous_generate",
    "simultaneous_stream",
    "with_sample_ids",
]
