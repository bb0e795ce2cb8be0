"""Pieces, read apart, give the documents that the whole source gives."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright.data.files import read_documents
from maskwright.data.prepare.documents import documents_of
from maskwright.data.prepare.pieces import Source, pieces_of
from maskwright.data.sources import load_corpus
from maskwright.data.splits import normalised
from maskwright.errors import DataError

# what ends lines, what is white space, marks, quotes, and characters of one to four bytes
TEXT = st.text("ab \t\n\r\x0b\u00a0\u2028\",'é日😀\ufeff", max_size=60)


def read(source: Source, target: int) -> list[str]:
    return [text for piece in pieces_of(source, target) for text in documents_of(piece, source)]


def whole(path: Path) -> list[str]:
    return [text for text in read_documents(path, "text") if text]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("documents")


@given(TEXT, st.integers(1, 80))
def test_a_text_file_in_pieces_is_the_text_file(folder, text, target):
    path = folder / "t.txt"
    path.write_bytes(text.encode())
    assert read(Source(str(path)), target) == whole(path)


@given(st.lists(TEXT, max_size=6), st.integers(1, 80))
def test_json_lines_in_pieces_are_the_rows(folder, texts, target):
    path = folder / "t.jsonl"
    rows = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    path.write_bytes("\n".join(rows).encode())
    # a carriage return inside a value is escaped by JSON
    assert read(Source(str(path)), target) == texts == read_documents(path, "text")


@given(st.lists(TEXT, max_size=6), st.integers(1, 80))
def test_csv_in_pieces_is_its_rows(folder, texts, target):
    path = folder / "t.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["number", "text"])
        writer.writerows(enumerate(texts))
    assert read(Source(str(path)), target) == read_documents(path, "text")


@pytest.mark.parametrize("target", [1, 40, 10**6])
def test_parquet_in_pieces_is_its_rows(folder, target):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    texts = [f"document {i}" if i % 5 else None for i in range(23)]
    path = folder / "t.parquet"
    parquet.write_table(pa.table({"id": range(23), "text": texts}), path, row_group_size=4)
    source = Source(str(path))
    assert read(source, target) == [text or "" for text in texts]
    assert len(pieces_of(source, 1)) == 6  # one for each row group
    assert len(pieces_of(source, 10**6)) == 1


def test_a_text_file_is_divided_where_its_documents_begin(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("one\nmore\n\n\ntwo\n \nthree\n")
    pieces = pieces_of(Source(str(path)), 1)
    assert [(piece.start, piece.stop) for piece in pieces] == [(0, 11), (11, 17), (17, 23)]
    assert [list(documents_of(piece, Source(str(path)))) for piece in pieces] == [
        ["one\nmore"], ["two"], ["three"],
    ]  # fmt: skip


def test_a_folder_is_its_files(tmp_path):
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.txt").write_text(f"text {name}\n\nwith a blank line")
    (tmp_path / "d.jsonl").write_text("no text file")
    source = Source(str(tmp_path))
    assert read(source, 1) == read(source, 10**6) == whole(tmp_path)
    assert [len(piece.places) for piece in pieces_of(source, 30)] == [2, 1]


def test_a_folder_of_parts(tmp_path):
    for name in ("b", "a"):
        rows = [json.dumps({"text": f"{name} {i}"}) for i in range(3)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    assert read(Source(str(tmp_path)), 20) == ["a 0", "a 1", "a 2", "b 0", "b 1", "b 2"]
    (tmp_path / "c.csv").write_text("text\na\n")
    with pytest.raises(DataError, match="csv and jsonl files side by side"):
        pieces_of(Source(str(tmp_path)))


@pytest.mark.parametrize("protocol", ["file", "memory"])
def test_urls(tmp_path, protocol):
    fsspec = pytest.importorskip("fsspec")
    place = str(tmp_path) if protocol == "file" else "/urls"
    system = fsspec.filesystem(protocol)
    system.makedirs(place, exist_ok=True)
    for name in ("a", "b"):
        with system.open(f"{place}/{name}.txt", "wb") as file:
            file.write(f"one {name}\n\ntwo {name}\n".encode())
    url = f"{protocol}://{place}"
    assert read(Source(f"{url}/a.txt"), 1) == ["one a", "two a"]
    assert read(Source(url), 1) == ["one a\n\ntwo a\n", "one b\n\ntwo b\n"]
    with pytest.raises(DataError, match="No file or folder"):
        pieces_of(Source(f"{url}/none.txt"))


def test_an_unknown_protocol_is_refused():
    pytest.importorskip("fsspec")
    with pytest.raises(DataError, match="no URL that fsspec reads"):
        pieces_of(Source("gopher://a/b.txt"))


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_splits_are_those_of_a_corpus(tmp_path, split):
    path = tmp_path / "t.jsonl"
    texts = [f"document number {i}" for i in range(200)]
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    found = read(Source(str(path), split=split), 500)
    assert tuple(found) == load_corpus(str(path)).documents(split)
    assert 0 < len(found) < 200


def test_the_speeches():
    source = Source("state-of-the-union", split="test")
    corpus = load_corpus("state-of-the-union")
    assert tuple(read(source, 100_000)) == corpus.documents("test")
    everything = read(Source("state-of-the-union"), 10**7)
    assert len({normalised(text) for text in everything}) == 233


def test_hub_data_sets(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    folder = tmp_path / "set"
    folder.mkdir()
    for split in ("train", "test"):
        rows = [json.dumps({"text": f"{split} {i}"}) for i in range(7)]
        (folder / f"{split}.jsonl").write_text("\n".join(rows))
    train = [f"train {i}" for i in range(7)]
    test = [f"test {i}" for i in range(7)]
    assert read(Source(f"hf:{folder}"), 20) == train + test
    assert read(Source(f"hf:{folder}", split="test"), 10**6) == test
    with pytest.raises(DataError, match="has no validation split"):
        pieces_of(Source(f"hf:{folder}", split="validation"))
    with pytest.raises(DataError, match="Unknown column 'tex'"):
        pieces_of(Source(f"hf:{folder}", text_column="tex"))


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("t.txt", b"good\n\nb\xffd\n", "line at byte 6: 0xff is not UTF-8"),
        ("t.jsonl", b'{"text": "a"}\n{\n', "line at byte 14 is not JSON"),
        ("t.jsonl", b"[1]\n", "is a list, not an object"),
        ("t.jsonl", b'{"txt": "a"}\n', "Unknown column 'text'. Did you mean 'txt'"),
        ("t.jsonl", b'{"text": 3}\n', "holds a int, not text"),
        ("t.csv", b'text\n"a\n', "not CSV"),
        ("t.csv", b"body\na\n", "Unknown column 'text'"),
        ("t.parquet", b"PAR1", "not a readable Parquet file"),
        ("t.pdf", b"", "Unknown file type '.pdf'"),
    ],
)
def test_what_cannot_be_read(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(Source(str(path)), 1)


def test_an_unknown_split():
    with pytest.raises(DataError, match="Did you mean 'train'"):
        Source("a.txt", split="tran")
