"""Sealed folders: the last file that is written says what all others must be.

``manifest.json`` has the size and the SHA-256 of every file below the folder. It is put in its
place after they have reached the disk, so a folder without one was never finished, and a folder
that is not as its manifest says was damaged since.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from maskwright.errors import SaveError
from maskwright.placing import place_bytes, sync_folder

MANIFEST = "manifest.json"
_FORMAT = 1


def seal(folder: Path) -> None:
    """Brings every file of ``folder`` to the disk, and then writes its manifest.

    Raises:
        SaveError: the disk takes no more; the folder then has no manifest.
    """
    unseal(folder)
    found = sorted(folder.rglob("*"))
    try:
        files = {
            path.relative_to(folder).as_posix(): _synced(path) for path in found if path.is_file()
        }
        for inner in [*(path for path in found if path.is_dir()), folder]:
            sync_folder(inner)
    except OSError as error:
        raise SaveError(
            f"{folder} cannot be brought to the disk: {error.strerror or error}. Free some space; "
            "without its manifest, it is not taken for whole."
        ) from error
    content = {"format": _FORMAT, "files": files}
    place_bytes(folder / MANIFEST, (json.dumps(content, indent=1) + "\n").encode())
    sync_folder(folder)
    sync_folder(folder.parent)


def unseal(folder: Path) -> None:
    """Take the manifest away, before anything in the folder changes."""
    path = folder / MANIFEST
    if path.exists():
        path.unlink()
        sync_folder(folder)


def is_sealed(folder: Path) -> bool:
    """Whether there is a manifest; whether it is right is for `damage` to say."""
    return (folder / MANIFEST).is_file()


def damage(folder: Path) -> str | None:
    """What is wrong with a sealed folder, in a few words; None: it is whole.

    All files are read. Files that came after the seal are not looked at.
    """
    try:
        content = json.loads((folder / MANIFEST).read_text("utf-8"))
        if content["format"] != _FORMAT:
            return f"its {MANIFEST} has format {content['format']}, this version reads {_FORMAT}"
        files = [(name, one["size"], one["sha256"]) for name, one in content["files"].items()]
    except FileNotFoundError:
        return f"it has no {MANIFEST}: it was not finished, or not sealed"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"its {MANIFEST} cannot be read"
    for name, size, _ in files:  # first, since it costs nothing
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if (there := path.stat().st_size) != size:
            return f"{name} has {there:,} bytes where {size:,} were written"
    for name, _, digest in files:
        try:
            with (folder / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    return f"the bytes of {name} are not those that were written"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def _synced(path: Path) -> dict[str, int | str]:
    with path.open("r+b") as file:  # some systems bring to the disk only what may be written
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        return {"size": os.fstat(file.fileno()).st_size, "sha256": digest}
