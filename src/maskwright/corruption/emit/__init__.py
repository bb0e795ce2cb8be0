"""What a plan becomes: the tensors that a model trains on."""

from maskwright.corruption.emit.batch import IGNORE, Emit, MaskedBatch
from maskwright.corruption.emit.mlm import Mlm, mlm

__all__ = ["IGNORE", "Emit", "MaskedBatch", "Mlm", "mlm"]
