"""Which parts of a training step pay only for what the masks leave; of `MaskingTrainer`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from maskwright.errors import ConfigError
from maskwright.hf.compute.acceleration import Acceleration, Unpad
from maskwright.hf.compute.head import PredictedHead


@dataclass(frozen=True)
class MaskAware:
    """Parts of mask-aware training, each of which can be switched off.

    Args:
        head: the output head at predicted positions only, a few rows of logits at a time.
        unpad: padding does not go through the model: ``"auto"``, where the model allows it; True,
            it must; False.
        dtype: of autocast while training. ``"auto"``: bfloat16 where the processor has
            instructions for it and the training arguments ask for no half type themselves; None:
            as the training arguments say. Unlike the others it is not the same mathematics.
        rows: logits of so many positions at once; as many as are fast unless given.

    Raises:
        ConfigError: a part is none of these.
    """

    head: bool = True
    unpad: Unpad = "auto"
    dtype: torch.dtype | Literal["auto"] | None = "auto"
    rows: int | None = None

    def __post_init__(self) -> None:
        if not (self.dtype in ("auto", None) or self.dtype in (torch.bfloat16, torch.float16)):
            raise ConfigError(
                f'dtype={self.dtype!r} of MaskAware: "auto", None, torch.bfloat16 or torch.float16.'
            )
        if not (self.head or self.unpad or self.dtype):
            raise ConfigError(
                "MaskAware(head=False, unpad=False, dtype=None) leaves nothing: mask_aware=False."
            )

    def type_on(self, device: torch.device) -> torch.dtype | None:
        """Of autocast on a device; None: none."""
        if self.dtype == "auto":
            return torch.bfloat16 if has_bfloat16(device) else None
        return self.dtype


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16 by itself, without a detour."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # private names, that may go: then the answer is no
        names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, bool)() for name in names)
    return False


class MaskAwareStep:
    """A training step that does so.

    Args:
        settings: which parts.
        model: not wrapped.
        half: whether the training loop sets an autocast of its own.
        logits: whether every step is to have its logits, so that the head is left alone.

    Raises:
        ModelError: the model does not allow what was asked for.
    """

    def __init__(self, settings: MaskAware, model: Any, half: bool, logits: bool = False) -> None:
        self.acceleration: Acceleration | None = None
        head = settings.head and not logits
        if head or settings.unpad:
            self.acceleration = Acceleration(model, head, settings.unpad, rows=settings.rows)
        self._settings = settings
        self._half = half and settings.dtype == "auto"

    @property
    def head(self) -> PredictedHead | None:
        """What computes losses without logits."""
        return None if self.acceleration is None else self.acceleration.head

    @contextmanager
    def installed(self) -> Iterator[None]:
        """For a forward pass and, where layers are checkpointed, its backward pass."""
        if self.acceleration is None or self.acceleration.installed:
            yield
            return
        self.acceleration.install(labels=False)
        try:
            yield
        finally:
            self.acceleration.remove()

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """For the forward pass."""
        dtype = None if self._half else self._settings.type_on(device)
        return nullcontext() if dtype is None else torch.autocast(device.type, dtype)

    def reachable(self, labels: Tensor, mask: Tensor | None) -> Tensor:
        """As `Acceleration.reachable`, where there is one."""
        return labels if self.acceleration is None else self.acceleration.reachable(labels, mask)
