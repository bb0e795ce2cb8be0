"""What the parts of the model have in common: their config, and how weights begin."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init

from maskwright.models.lstm.configuration import LstmSeq2SeqConfig


class LstmPreTrainedModel(PreTrainedModel):
    """Loading, saving and first weights."""

    config: LstmSeq2SeqConfig
    config_class = LstmSeq2SeqConfig
    base_model_prefix = "model"
    _supports_sdpa = True
    _is_stateful = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Even draws, as in Luong et al. (section 4.1); forget gates begin open (Jozefowicz et al.
        2015)."""
        bound = self.config.initializer_range
        if isinstance(module, nn.Linear | nn.Embedding):
            init.uniform_(module.weight, -bound, bound)
        elif isinstance(module, nn.LSTM):
            for name, weight in module.named_parameters():
                if not name.startswith("bias"):
                    init.uniform_(weight, -bound, bound)
                    continue
                begin: Any = torch.zeros_like(weight)
                if name.startswith("bias_ih"):
                    # gates in the order input, forget, cell, output
                    begin[module.hidden_size : 2 * module.hidden_size] = 1.0
                init.copy_(weight, begin)
