"""The checkpoints of a run: which is the newest whole one, and which are not needed any more."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from maskwright.errors import CacheError, ConfigError
from maskwright.hf.recovery.seal import damage, is_sealed, unseal

_NAME = re.compile(r"checkpoint-(\d+)")
logger = logging.getLogger(__name__)


def checkpoints_in(folder: str | Path) -> list[Path]:
    """All folders ``checkpoint-N``, whole or not, in the order of N."""
    folder = Path(folder)
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((one for one in found if _NAME.fullmatch(one.name) and one.is_dir()), key=_step)


def latest_checkpoint(folder: str | Path) -> Path | None:
    """The newest checkpoint below a run's folder that is whole, byte for byte; None: there is none.

    Each newer one is passed over with a warning in the log that says what is wrong with it. Nothing
    is changed, so it may be asked while a run goes on.
    """
    for checkpoint in reversed(checkpoints_in(folder)):
        if (found := damage(checkpoint)) is None:
            return checkpoint
        logger.warning("%s is passed over: %s.", checkpoint, found)
    return None


def checkpoint_to_resume(asked: bool | str | Path | None, folder: str | Path) -> Path | None:
    """What ``train(resume_from_checkpoint=asked)`` goes on from.

    Args:
        asked: True: the newest whole checkpoint below ``folder``. A path: that one, whole if it was
            sealed; one that was not is taken as it is.

    Raises:
        ConfigError: none is whole.
        CacheError: the one that was asked for is damaged.
    """
    if asked is None or asked is False:
        return None
    if asked is True:
        if (found := latest_checkpoint(folder)) is not None:
            return found
        there = ", ".join(f"{one.name}: {damage(one)}" for one in checkpoints_in(folder))
        raise ConfigError(
            f"{folder} has no whole checkpoint to resume from ({there or 'there is none at all'}). "
            "Train from the start, or name one that you know to be good: "
            "resume_from_checkpoint=folder."
        )
    if is_sealed(Path(asked)) and (found := damage(Path(asked))) is not None:
        raise CacheError(
            f"{asked} is damaged: {found}. resume_from_checkpoint=True takes the newest whole one."
        )
    return Path(asked)


def begin_checkpoint(checkpoint: Path) -> None:
    """Make room for a checkpoint: what is left there of another attempt goes, its seal first."""
    if checkpoint.is_dir():
        remove_checkpoint(checkpoint)


def remove_checkpoint(checkpoint: Path) -> None:
    """Delete one; killed half-way, what is left is not taken for whole."""
    unseal(checkpoint)
    shutil.rmtree(checkpoint, ignore_errors=True)


def prune_checkpoints(
    folder: str | Path, keep: int | None, protected: Iterable[str | Path | None] = ()
) -> None:
    """Delete all but ``keep`` sealed checkpoints, the newest; and those that were never finished.

    Args:
        keep: None, or below 1: nothing is deleted.
        protected: are kept, and count; the one that was just sealed must be among them, or be the
            newest. Without a sealed one nothing is deleted.
    """
    if keep is None or keep < 1:
        return
    there = checkpoints_in(folder)
    wanted = {Path(one).absolute() for one in protected if one is not None}
    kept = [one for one in there if one.absolute() in wanted]
    newest = [one for one in reversed(there) if one not in kept and is_sealed(one)]
    kept += newest[: max(0, keep - len(kept))]
    if not any(is_sealed(one) for one in kept):
        return
    for one in there:
        if one not in kept:
            remove_checkpoint(one)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
