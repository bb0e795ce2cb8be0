"""An encoder–decoder of LSTMs with attention (Luong et al. 2015, 1508.04025), as a model of
transformers: masks at its inputs, at its cross-attention and at its outputs.

Importing it makes it known to `AutoConfig`, `AutoModel` and `AutoModelForSeq2SeqLM`.
"""

from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM

from maskwright.models.lstm.conditional_generation import LstmForConditionalGeneration
from maskwright.models.lstm.configuration import LstmSeq2SeqConfig
from maskwright.models.lstm.model import LstmModel
from maskwright.models.lstm.outputs import LstmEncoderOutput, LstmSeq2SeqLMOutput
from maskwright.models.lstm.state import LstmState

AutoConfig.register(LstmSeq2SeqConfig.model_type, LstmSeq2SeqConfig, exist_ok=True)
AutoModel.register(LstmSeq2SeqConfig, LstmModel, exist_ok=True)
AutoModelForSeq2SeqLM.register(LstmSeq2SeqConfig, LstmForConditionalGeneration, exist_ok=True)

__all__ = [
    "LstmEncoderOutput",
    "LstmForConditionalGeneration",
    "LstmModel",
    "LstmSeq2SeqConfig",
    "LstmSeq2SeqLMOutput",
    "LstmState",
]
