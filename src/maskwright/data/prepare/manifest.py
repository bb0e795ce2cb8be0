"""The manifest of a prepared folder: what it was made of, what is in it, and its sums.

It says nothing of when, where and by how many workers it was made, so the same source gives the
same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maskwright.data.prepare.layout import Layout, sha256_of
from maskwright.data.prepare.pieces import Piece
from maskwright.data.prepare.tasks import as_recorded
from maskwright.data.sharded_table import FORMAT
from maskwright.errors import CacheError, ConfigError
from maskwright.placing import place_bytes


def write_manifest(
    layout: Layout,
    settings: Mapping[str, Any],
    pieces: list[Piece],
    reads: list[dict[str, Any]],
    chunks: list[dict[str, Any]],
    shards: list[dict[str, Any]],
    totals: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes it and gives it back; ``reads`` and ``chunks`` are the records of the pieces."""
    files = [layout.statistics, layout.dropped, layout.splits]
    files += [layout.phrases] if settings["phrases"] is not None else []
    manifest = {
        "format": FORMAT,
        "settings": dict(settings),
        "totals": dict(totals),
        "pieces": [
            asdict(piece) | read | chunk
            for piece, read, chunk in zip(pieces, reads, chunks, strict=True)
        ],
        "shards": shards,
        "files": {path.name: sha256_of(path) for path in files},
    }
    text = json.dumps(manifest, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    place_bytes(layout.manifest, text.encode())
    return json.loads(text)


def read_manifest(layout: Layout) -> dict[str, Any] | None:
    """The manifest, or None where there is none yet.

    Raises:
        CacheError: it is damaged, or of another format.
    """
    if not layout.manifest.exists():
        return None
    remedy = f"Delete {layout.out} and prepare it again."
    try:
        manifest = json.loads(layout.manifest.read_text("utf-8"))
        found = manifest["format"]
        known = [manifest[name] for name in ("settings", "totals", "pieces", "shards", "files")]
    except OSError as error:
        raise CacheError(f"{layout.manifest} cannot be read ({error.strerror}).") from None
    except (ValueError, LookupError, TypeError):
        raise CacheError(f"{layout.manifest} is damaged. {remedy}") from None
    if found != FORMAT or not all(known[:1]):
        raise CacheError(
            f"{layout.manifest} has format {found!r} where this version reads {FORMAT}. {remedy}"
        )
    return manifest


def check_settings(out: Path, mine: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raises `ConfigError` where a folder was begun, or made, with other settings."""
    # as JSON gives them back
    mine = json.loads(json.dumps(dict(mine)))
    for name in sorted({*mine, *found}):
        if found.get(name) != mine.get(name):
            raise ConfigError(
                f"{out} was prepared with {name} = {found.get(name)!r}, not {mine.get(name)!r}. "
                "Give that setting again, or choose another folder for --out."
            )


def damaged_shards(out: Path, manifest: Mapping[str, Any]) -> list[int]:
    """The numbers of the shards that are missing or have other bytes than were written."""
    shards = manifest["shards"]
    return [number for number, shard in enumerate(shards) if not as_recorded(out, shard)]


def damaged_files(out: Path, manifest: Mapping[str, Any]) -> list[str]:
    """The names of the other files that are."""
    bad = []
    for name, expected in manifest["files"].items():
        path = out / name
        if not path.is_file() or sha256_of(path) != expected:
            bad.append(name)
    return bad


def pieces_in(manifest: Mapping[str, Any]) -> list[Piece]:
    """The pieces that the folder was made of."""
    return [
        Piece(entry["kind"], tuple(entry["places"]), entry["start"], entry["stop"])
        for entry in manifest["pieces"]
    ]
