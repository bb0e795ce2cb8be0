"""How important a token is: by the running average of the losses of its vocabulary id."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from maskwright.errors import CacheError, ConfigError
from maskwright.hf.guided.ranks import of_all_ranks
from maskwright.placing import placing

NAME = "token_dropping.safetensors"  # in a checkpoint


class RunningLoss:
    """For each id of the vocabulary ``m ← β·m + (1 − β)·loss`` (2203.13240).

    Once a step, for each id that the step predicted, with the mean of its losses in all
    micro-batches and ranks. So neither their number nor their order counts.

    Args:
        size: of the vocabulary.
        beta: how slowly it forgets, 0 to 1; 0.995 in the code of the paper's authors.
        start: of ids that were never predicted, in nats: above what is usual, so that such ids are
            important; 10 in the code of the paper's authors.

    Raises:
        ConfigError: ``beta`` is outside its rule.
    """

    def __init__(self, size: int, beta: float = 0.995, start: float = 10.0) -> None:
        if not 0 <= beta < 1:
            raise ConfigError(f"beta={beta!r} of TokenDropping: a share from 0, below 1.")
        self.beta = beta
        self.mean = torch.full((size,), start, dtype=torch.float32)
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._here: Tensor | None = None  # the means on the device that asks for them

    def of(self, ids: Tensor) -> Tensor:
        """Float32 in the shape of the ids."""
        if self._here is None or self._here.device != ids.device:
            self._here = self.mean.to(ids.device)
        return self._here[ids]

    def see(self, ids: Tensor, losses: Tensor) -> None:
        """Losses of predicted tokens, both ``(P,)``; they count from `settle` on."""
        self._waiting.append((ids.detach(), losses.detach()))

    def settle(self) -> None:
        """The step is over; every rank calls it."""
        waiting, self._waiting = self._waiting, []
        ids = [part.cpu().numpy() for part, _ in waiting]
        losses = [part.double().cpu().numpy() for _, part in waiting]
        empty = np.empty(0, np.int64), np.empty(0)
        own = (np.concatenate([empty[0], *ids]), np.concatenate([empty[1], *losses]))
        parts = of_all_ranks(own)
        seen = np.concatenate([part[0] for part in parts])
        found = np.concatenate([part[1] for part in parts])
        finite = np.isfinite(found)  # a bad step moves no weight, and no mean either
        seen, found = seen[finite], found[finite]
        if not len(seen):
            return
        size = len(self.mean)
        counts = np.bincount(seen, minlength=size)
        means = np.bincount(seen, found, size) / np.maximum(counts, 1)
        before = self.mean.double().numpy()
        after = np.where(counts > 0, self.beta * before + (1 - self.beta) * means, before)
        self.mean = torch.from_numpy(after.astype(np.float32))
        self._here = None

    def save(self, checkpoint: Path) -> None:
        """Into the folder of a checkpoint."""
        with placing(checkpoint / NAME) as temporary:
            save_file({"mean": self.mean}, temporary)

    def restore(self, checkpoint: Path) -> None:
        """As `save` left it.

        Raises:
            ConfigError: the checkpoint is of a run without such means, or of another vocabulary.
            CacheError: its file is damaged.
        """
        path = checkpoint / NAME
        if not path.is_file():
            raise ConfigError(
                f"{checkpoint} has no {NAME}: it is of a run that dropped no tokens by their loss. "
                "Resume without token_dropping, or start a new run from its weights."
            )
        try:
            mean = load_file(path)["mean"]
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise CacheError(f"{path} is damaged ({error}). Resume from another one.") from None
        if mean.shape != self.mean.shape:
            raise ConfigError(
                f"{path} is of a vocabulary of {len(mean)} ids, and the model has {len(self.mean)}."
            )
        self.mean, self._waiting, self._here = mean.float(), [], None
