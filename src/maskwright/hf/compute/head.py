"""The head of a language model at predicted positions only, and its loss without all its logits.

The hidden states that the backbone gives are narrowed to the positions that are predicted. What
comes before the output embedding (the transform of BERT's head) then runs on those alone, and so
would the output embedding: it is asked for no rows at all, its input is kept, and
`linear_cross_entropy` does its work a few rows at a time.

What a model does to its logits behind the output embedding must be known for that. Two rows of
probes are sent there in place of logits, zeros and a ramp: what becomes of the zeros is what is
added (a bias of BART), and the ramp must come out as it went in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn

from maskwright.errors import ModelError
from maskwright.hf.compute.linear_cross_entropy import linear_cross_entropy
from maskwright.hf.head import predicted_only

_WITHOUT = "Use head=False."


class PredictedHead:
    """The head of a model, for losses of predicted positions.

    Args:
        model: a Hugging Face language model, not wrapped.
        rows: logits of so many positions at once; as many as are fast unless given.

    Raises:
        ModelError: the model has no output embedding, or one that is no plain linear layer.
    """

    def __init__(self, model: Any, rows: int | None = None) -> None:
        self.model = model
        self.rows = rows
        embedding = getattr(model, "get_output_embeddings", lambda: None)()
        if type(embedding) is not nn.Linear:
            kind = "none" if embedding is None else f"a {type(embedding).__name__}"
            raise ModelError(
                f"The output embedding of {type(model).__name__} is no plain linear layer but "
                f"{kind}, so its loss cannot be computed a few rows at a time. {_WITHOUT}"
            )
        self.embedding = embedding
        self._seen: list[Tensor] = []
        self._probe: Tensor | None = None

    @contextmanager
    def open(self, positions: Tensor, shape: tuple[int, int]) -> Iterator[None]:
        """Within it the model gives no logits, and afterwards `loss` can be asked.

        Args:
            positions: ``(P,)`` int64 into the flattened ``(B, S)``.
            shape: ``(B, S)``.
        """
        self._seen = []
        handles = [
            self.embedding.register_forward_pre_hook(self._keep),
            self.embedding.register_forward_hook(self._send_probe),
        ]
        try:
            with predicted_only(self.model, positions, shape):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def loss(
        self,
        logits: Tensor,
        targets: Tensor,
        *,
        weights: Tensor | None = None,
        divisor: Tensor | float = 1.0,
        label_smoothing: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """The sum of weighed losses by the divisor, and the ``(P,)`` losses, of the last pass.

        Args:
            logits: what the model gave for logits.
            targets: ``(P,)`` int64.
            weights, divisor, label_smoothing: as for `linear_cross_entropy`.

        Raises:
            ModelError: the model does something else to its logits than to add numbers, or used
                its output embedding twice.
        """
        name = type(self.model).__name__
        if len(self._seen) != 1:
            raise ModelError(
                f"{name} used its output embedding {len(self._seen)} times in one pass, so it is "
                f"not known which logits are those of the loss. {_WITHOUT}"
            )
        hidden = self._seen.pop().flatten(0, -2)
        bias: Tensor | None = self.embedding.bias
        added = self._added(logits, name)
        if added is not None:
            bias = added if bias is None else bias + added
        return linear_cross_entropy(
            hidden,
            self.embedding.weight,
            bias,
            targets,
            weights=weights,
            divisor=divisor,
            label_smoothing=label_smoothing,
            rows=self.rows,
        )

    def _keep(self, _module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        self._seen.append(inputs[0])
        return (inputs[0][..., :0, :],)

    def _send_probe(self, _module: Any, _inputs: Any, output: Tensor) -> Tensor:
        classes = output.shape[-1]
        # exact in every type, and far beyond where caps begin to bend
        ramp = (torch.arange(classes, device=output.device) % 255 - 127).to(output.dtype)
        self._probe = torch.stack((torch.zeros_like(ramp), ramp)).unsqueeze(0)
        if distributed.is_available() and distributed.is_initialized():
            # a sum of no logits: DistributedDataParallel looks from what the model gives which
            # parameters were used, and the loss is not there yet
            self._probe = self._probe + output.sum()
        return self._probe

    def _added(self, logits: Tensor, name: str) -> Tensor | None:
        """``(V,)``: what the model adds to its logits; None: nothing."""
        probe, self._probe = self._probe, None
        if logits is probe:
            return None
        assert probe is not None
        known = logits.shape == probe.shape
        if known:
            found, sent = logits.detach().float(), probe.float()
            # halves round what they add up, of numbers to 127
            near = 1e-3 if probe.dtype in (torch.float32, torch.float64) else 1.0
            known = torch.allclose(found[0, 1] - found[0, 0], sent[0, 1], rtol=1e-3, atol=near)
        if not known:
            raise ModelError(
                f"{name} scales or caps its logits behind the output embedding, so its loss cannot "
                f"be computed a few rows at a time. {_WITHOUT}"
            )
        return logits[0, 0]
