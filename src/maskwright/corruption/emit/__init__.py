"""What a plan becomes: the tensors that a model trains on."""

from maskwright.corruption.emit.batch import IGNORE, Emit, MaskedBatch
from maskwright.corruption.emit.causal import FillInTheMiddle, PrefixLM
from maskwright.corruption.emit.decoder import Decoder
from maskwright.corruption.emit.diffusion import Diffusion
from maskwright.corruption.emit.mlm import Mlm, mlm
from maskwright.corruption.emit.seq2seq import Seq2Seq

__all__ = [
    "IGNORE",
    "Decoder",
    "Diffusion",
    "Emit",
    "FillInTheMiddle",
    "MaskedBatch",
    "Mlm",
    "PrefixLM",
    "Seq2Seq",
    "mlm",
]
