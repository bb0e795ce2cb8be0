"""Where cached files live, and how a file or folder is put there whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from maskwright.errors import SaveError


def cache_root(cache_dir: str | Path | None = None) -> Path:
    """``cache_dir`` if given, else ``$MASKWRIGHT_CACHE``, else ``~/.cache/maskwright``."""
    if cache_dir is not None:
        return Path(cache_dir)
    setting = os.environ.get("MASKWRIGHT_CACHE")
    return Path(setting).expanduser() if setting else Path.home() / ".cache" / "maskwright"


def place_folder(target: Path, fill: Callable[[Path], None]) -> Path:
    """Make the folder ``target`` by filling a temporary one beside it and renaming that.

    If another process puts the same folder there first, its copy is kept: cached folders are
    named by their content, so both are the same.

    Raises:
        SaveError: it cannot be written; nothing is left half-written.
    """
    temporary = target.parent / f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        temporary.mkdir(parents=True)
        fill(temporary)
        try:
            os.replace(temporary, target)
        except OSError:
            if not target.is_dir():
                raise
    except OSError as error:
        raise SaveError(
            f"{target} cannot be written ({error.strerror or error}); nothing was left "
            "half-written. Free some space, or set MASKWRIGHT_CACHE to a folder that can be "
            "written."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target
