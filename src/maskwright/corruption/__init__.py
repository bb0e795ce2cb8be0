"""Token masks: which tokens a model must guess."""

from maskwright.corruption.act import Act, Delete, Infill, Keep, Mask, Mixture, Random, Sentinel
from maskwright.corruption.arrange import Arrange, Rotate, ShuffleSentences, ShuffleWindow
from maskwright.corruption.cautious import Cautious
from maskwright.corruption.decoder_recipes import DECODER_MASKINGS, decoder_masking
from maskwright.corruption.emit import (
    Decoder,
    Diffusion,
    Emit,
    FillInTheMiddle,
    MaskedBatch,
    Mlm,
    PrefixLM,
    Seq2Seq,
    mlm,
)
from maskwright.corruption.entropy import selection_entropy
from maskwright.corruption.gaps import Gaps
from maskwright.corruption.graded import Later, Longer
from maskwright.corruption.lengths import Fixed, Geometric, Harmonic, Poisson
from maskwright.corruption.marked import Marked, mark
from maskwright.corruption.masking import Masking
from maskwright.corruption.mixture import MixedMasking
from maskwright.corruption.phrases import Collocations, Phrases, learn_phrases
from maskwright.corruption.plan import Action, MaskPlan
from maskwright.corruption.rate import SampledRate, TwoPointRate
from maskwright.corruption.recipes import RECIPES, recipe
from maskwright.corruption.recurring import Recurring
from maskwright.corruption.refresh import (
    Coverage,
    Dynamic,
    EverySteps,
    Refresh,
    RollingWindow,
    Rotating,
    Static,
)
from maskwright.corruption.scored import Above, Weighted
from maskwright.corruption.select import Select, Tokens
from maskwright.corruption.sliding import Sliding
from maskwright.corruption.spans import Spans
from maskwright.corruption.sparse import EveryNth, MinDistance, Stratified
from maskwright.corruption.structure import Prefix, Sentences, Suffix, sentence_ends
from maskwright.corruption.t5_spans import NoiseSpans, OneSpan
from maskwright.corruption.words import WholeWords

__all__ = [
    "Above",
    "Act",
    "Action",
    "Arrange",
    "Cautious",
    "Collocations",
    "Coverage",
    "DECODER_MASKINGS",
    "Decoder",
    "Delete",
    "Diffusion",
    "Dynamic",
    "Emit",
    "EveryNth",
    "EverySteps",
    "FillInTheMiddle",
    "Fixed",
    "Gaps",
    "Geometric",
    "Harmonic",
    "Infill",
    "Keep",
    "Later",
    "Longer",
    "Marked",
    "Mask",
    "MaskPlan",
    "MaskedBatch",
    "Masking",
    "MinDistance",
    "MixedMasking",
    "Mixture",
    "Mlm",
    "NoiseSpans",
    "OneSpan",
    "Phrases",
    "Poisson",
    "Prefix",
    "PrefixLM",
    "RECIPES",
    "Random",
    "Recurring",
    "Refresh",
    "RollingWindow",
    "Rotate",
    "Rotating",
    "SampledRate",
    "Select",
    "Sentences",
    "Sentinel",
    "Seq2Seq",
    "ShuffleSentences",
    "ShuffleWindow",
    "Sliding",
    "Spans",
    "Static",
    "Stratified",
    "Suffix",
    "Tokens",
    "TwoPointRate",
    "Weighted",
    "WholeWords",
    "decoder_masking",
    "learn_phrases",
    "mark",
    "mlm",
    "recipe",
    "selection_entropy",
    "sentence_ends",
]
