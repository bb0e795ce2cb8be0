"""Where the decoder stands: what transformers calls a cache."""

from __future__ import annotations

from typing import Any, NoReturn

from torch import Tensor

from maskwright.errors import ModelError


class LstmState:
    """The decoder's state behind the tokens that it has read.

    A forward pass makes a new one and leaves that which it was given as it was.

    Args:
        hidden, cell: ``(B, layers, H)``.
        fed: ``(B, H)``: the last attentional vector.
        read: decoder tokens so far, padding included.
    """

    is_compileable = False

    def __init__(self, hidden: Tensor, cell: Tensor, fed: Tensor, read: int) -> None:
        self.hidden = hidden
        self.cell = cell
        self.fed = fed
        self.read = read

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Decoder tokens so far."""
        return self.read

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Each row goes on from the state of row ``beam_idx[row]``; of beam search."""
        rows = beam_idx.to(self.hidden.device)
        self.hidden = self.hidden.index_select(0, rows)
        self.cell = self.cell.index_select(0, rows)
        self.fed = self.fed.index_select(0, rows)

    def crop(self, *_: Any) -> NoReturn:
        """There is no way back."""
        raise ModelError(
            "LstmState cannot be cropped: a recurrence does not keep the states before its last. "
            "Keep the past_key_values of the step to go back to."
        )

    def __repr__(self) -> str:
        return f"LstmState({self.read} tokens read, batch {len(self.hidden)})"
