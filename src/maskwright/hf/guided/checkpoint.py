"""What a checkpoint keeps of a guided run, and how it is found again.

``scores.maskwright`` is a snapshot of the store, ``guidance.maskwright`` the rest. A callback is
not told which checkpoint a run resumes from; but the trainer's own state comes out of it, and says
which run it was and where it lay.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

from maskwright.errors import CacheError, ConfigError
from maskwright.guidance import ScoreStore
from maskwright.guidance.checked_file import Sink, read_checked, write_checked

NAME = "guidance.maskwright"
_KEY = "maskwright.Guidance"  # among the states of callbacks in trainer_state.json
_REMEDY = "Resume from another checkpoint."


def sign(state: Any, output_dir: str) -> None:
    """Note in the trainer's state which run it is of, and where its checkpoints lie."""
    known = state.stateful_callbacks.get(_KEY) or {"run": secrets.token_hex(8)}
    folder = str(Path(output_dir).absolute())
    state.stateful_callbacks[_KEY] = {"run": known["run"], "output_dir": folder}


def save(
    state: Any, output_dir: str, store: ScoreStore, more: dict[str, Any], part: str = ""
) -> None:
    """Add the store, and ``more``, to the checkpoint of this step.

    Args:
        part: a folder in it, for all but the first of several callbacks.
    """
    folder = _checkpoint(output_dir, state) / part
    if not store.writable:
        raise ConfigError(
            f"{store.path} was opened to read by the process that saves checkpoints. The first "
            "rank opens the store to write."
        )
    folder.mkdir(exist_ok=True)
    store.snapshot(folder)
    content = json.dumps({**_identity(state), **more}).encode()

    def fill(sink: Sink) -> None:
        sink.write(content)

    write_checked(folder / NAME, fill)


def restore(
    state: Any, args: Any, store: ScoreStore, folder: str | Path | None = None, part: str = ""
) -> dict[str, Any]:
    """Put the store of the checkpoint back that the run resumes from; gives ``more``.

    Args:
        folder: the checkpoint, if it was moved.
        part: as it was saved with.

    Raises:
        ConfigError: the run was not guided, or its checkpoint cannot be found.
        CacheError: a file is damaged.
    """
    noted = state.stateful_callbacks.get(_KEY)
    if noted is None:
        raise ConfigError(
            f"The checkpoint of step {state.global_step} is of a run without Guidance: it has no "
            "scores to go on with. Resume without Guidance, or start a new run from its weights."
        )
    places = [folder, args.resume_from_checkpoint]
    places += [_checkpoint(where, state) for where in (noted["output_dir"], args.output_dir)]
    for place in places:
        if isinstance(place, str | Path) and (Path(place) / part / NAME).is_file():
            place = Path(place) / part
            content = _read(place / NAME)
            if {**content, **_identity(state)} == content:
                if store.writable:
                    store.restore(place)
                return {k: v for k, v in content.items() if k not in _identity(state)}
    looked = ", ".join(str(place) for place in dict.fromkeys(places) if place is not None)
    raise ConfigError(
        f"The run resumes at step {state.global_step}, but its checkpoint with {NAME} is not in "
        f"{looked}. If it was moved, say where it is: Guidance(…, checkpoint=folder)."
    )


def _identity(state: Any) -> dict[str, Any]:
    return {"run": state.stateful_callbacks[_KEY]["run"], "step": state.global_step}


def _checkpoint(output_dir: str, state: Any) -> Path:
    return Path(output_dir) / f"checkpoint-{state.global_step}"


def _read(path: Path) -> dict[str, Any]:
    with read_checked(path, _REMEDY) as file:
        try:
            return json.load(file)
        except ValueError:
            raise CacheError(f"{path} is damaged. {_REMEDY}") from None
