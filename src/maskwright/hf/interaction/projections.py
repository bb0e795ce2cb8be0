"""The projections of an attention module: where its heads begin and where they end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from maskwright.errors import ModelError

# Names of the query's, the key's, the value's and the output's projection in transformers.
_NAMES = (
    ("q_proj", "k_proj", "v_proj", "out_proj"),  # BART, Marian, Whisper, and most others
    ("q_proj", "k_proj", "v_proj", "o_proj"),  # Llama and its kin
    ("q", "k", "v", "o"),  # T5
    ("q_lin", "k_lin", "v_lin", "out_lin"),  # DistilBERT
    ("query", "key", "value", "dense"),  # BERT, whose output stands beside the attention
)
# Outputs of modules whose other projections are one.
_FUSED = ("c_proj", "Wo")  # GPT-2, ModernBERT


@dataclass(frozen=True, eq=False)
class Projections:
    """The projections of one attention module.

    Attributes:
        output: from ``(…, heads * size)``.
        inputs: of query, key and value; None where the model has them in one matrix.
        heads: how many heads of queries there are.
        size: of a head.
    """

    output: nn.Module
    inputs: tuple[nn.Module, nn.Module, nn.Module] | None
    heads: int
    size: int

    def scale_output(self, gates: Tensor) -> None:
        """Multiply the columns of each head in the output's matrix, ``(heads,)``."""
        weight: Any = self.output.weight
        factors = gates.to(weight.device, weight.dtype).repeat_interleave(self.size)
        # transformers' Conv1D holds its matrix the other way round
        weight.data.mul_(factors[:, None] if isinstance(self.output, Conv1D) else factors)


def projections_of(model: nn.Module, module: nn.Module, path: str) -> Projections:
    """Those of the attention module at ``path`` in a model.

    Raises:
        ModelError: they are not found, or do not say how many heads there are.
    """
    parent = model.get_submodule(path.rpartition(".")[0])
    beside = getattr(parent, "output", None)
    for *names, last in _NAMES:
        inputs = tuple(getattr(module, name, None) for name in names)
        output = getattr(module, last, None) or getattr(beside, last, None)
        if isinstance(output, nn.Linear) and all(isinstance(one, nn.Linear) for one in inputs):
            return Projections(output, inputs, *_sizes(module, path, output.in_features))  # type: ignore[arg-type]
    for name in _FUSED:
        output = getattr(module, name, None)
        if isinstance(output, nn.Linear | Conv1D):
            width = output.weight.shape[0 if isinstance(output, Conv1D) else 1]
            return Projections(output, None, *_sizes(module, path, width))
    raise ModelError(
        f"{path} ({type(module).__name__}) has no output projection by a name that is known here "
        f"({', '.join([*dict.fromkeys(names[-1] for names in _NAMES), *_FUSED])}), so its heads "
        "cannot have gates."
    )


def _sizes(module: Any, path: str, width: int) -> tuple[int, int]:
    """How many heads there are, and how large they are."""
    for name in ("head_dim", "key_value_proj_dim", "attention_head_size", "attention_head_dim"):
        size = getattr(module, name, None)
        if isinstance(size, int) and size > 0 and width % size == 0:
            return width // size, size
    for name in ("num_heads", "n_heads", "num_attention_heads"):
        heads = getattr(module, name, None)
        if isinstance(heads, int) and heads > 0 and width % heads == 0:
            return heads, width // heads
    raise ModelError(
        f"{path} ({type(module).__name__}) does not say how large its heads are (head_dim), so "
        "they cannot have gates."
    )
