"""Pairs from every kind of file, and every way a line can be bad."""

import gzip
import json
from pathlib import Path

import pytest

from maskwright.data.packages import PACKAGED, folder_of
from maskwright.data.pairs import Pair, read_pairs
from maskwright.errors import DataError

EN_ES = {"source_column": "en", "target_column": "es"}
JSON_GO = '{"source": "Go.", "target": "Ve."}\n'
JSON_HI = '{"target": "Hola.", "source": "Hi."}\n'
TWO = [Pair("Go.", "Ve.", 1), Pair("Hi.", "Hola.", 2)]


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def at(pairs, first):
    """The pairs as if the first were on line 1."""
    return [Pair(pair.source, pair.target, pair.line - first + 1) for pair in pairs]


# -- what can be read ---------------------------------------------------------------------------


def test_the_sample(sample_path, pairs):
    assert len(pairs) == 61
    assert pairs.notes == ()
    assert pairs.pairs[0] == Pair("We were enemies.", "Éramos enemigos.", 1)
    assert pairs.pairs[14] == Pair('"Trust me," he said.', 'Dijo: "Confía en mí".', 15)
    # every line keeps its attribution beside it, where the line number leads
    lines = sample_path.read_text("utf-8").splitlines()
    assert all("tatoeba.org" in lines[pair.line - 1].split("\t")[2] for pair in pairs)


@pytest.mark.parametrize(
    "name, text, columns, first",
    [
        ("a.tsv", "source\ttarget\nGo.\tVe.\nHi.\tHola.\n", {}, 2),
        ("a.tsv", "Go.\tVe.\tx\nHi.\tHola.\ty", {"source_column": 0, "target_column": 1}, 1),
        ("a.tsv", "es\ten\nVe.\tGo.\r\nHola.\tHi.\r\n", EN_ES, 2),
        ("a.csv", 'id,source,target\n1,"Go.",Ve.\n2,Hi.,Hola.\n', {}, 2),
        ("a.csv", "\ufefftarget,source\nVe.,Go.\nHola.,Hi.\n", {}, 2),
        ("a.jsonl", JSON_GO + JSON_HI, {}, 1),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_tables(tmp_path, name, text, columns, first, packed):
    path = tmp_path / (f"{name}.gz" if packed else name)
    write(path, gzip.compress(text.encode()) if packed else text)
    pairs = read_pairs(str(path), **columns)
    assert at(pairs, first) == TWO
    assert pairs.pairs[0].line == first


@pytest.mark.parametrize("packed", [False, True])
def test_parallel_files(tmp_path, packed):
    texts = {"a.en": "Go.\n\nHi.\n", "a.es": "Ve.\n\nHola."}
    for name, text in texts.items():
        data = text.encode()
        write(tmp_path / (name + ".gz" * packed), gzip.compress(data) if packed else data)
    names = ",".join(str(tmp_path / (name + ".gz" * packed)) for name in texts)
    # a line that is empty on both sides is passed over
    assert list(read_pairs(names)) == [Pair("Go.", "Ve.", 1), Pair("Hi.", "Hola.", 3)]


def test_a_cell_of_several_lines_is_one_line_of_text(tmp_path):
    text = 'source,target\n"Go\n  on, ""now""!",Sigue\xa0ya\nHi.,Hola.\n'
    pairs = list(read_pairs(write(tmp_path / "a.csv", text)))
    assert pairs == [Pair('Go on, "now"!', "Sigue ya", 2), Pair("Hi.", "Hola.", 4)]


def test_quotation_marks_of_a_tsv_file_are_text(tmp_path):
    path = write(tmp_path / "a.tsv", 'source\ttarget\n"Look\tMira\nHi."\tHola.\n')
    assert [pair.source for pair in read_pairs(path)] == ['"Look', 'Hi."']


def test_equal_pairs_are_dropped_and_counted(tmp_path):
    text = "source\ttarget\nGo.\tVe.\nGo.\tVaya.\n Go. \tVe.\nGo.\tVe.\n"
    pairs = read_pairs(write(tmp_path / "a.tsv", text))
    assert list(pairs) == [Pair("Go.", "Ve.", 2), Pair("Go.", "Vaya.", 3)]
    assert pairs.duplicates == 2
    assert pairs.notes == ("Exact duplicates dropped: 2.",)


def test_tatoeba_is_read_from_the_cache_and_can_be_turned_round(tmp_path, sample_path):
    with pytest.raises(DataError, match="Run: maskwright data get tatoeba"):
        read_pairs("tatoeba", cache_dir=tmp_path)
    folder = folder_of(PACKAGED["tatoeba"], tmp_path)
    folder.mkdir(parents=True)
    (folder / "eng-spa.tsv").write_bytes(sample_path.read_bytes())
    pairs = read_pairs("tatoeba", cache_dir=tmp_path)
    assert len(pairs) == 61
    assert pairs.licence.startswith("CC BY 2.0 FR")
    assert list(read_pairs("package:tatoeba", cache_dir=tmp_path)) == list(pairs)
    turned = read_pairs("tatoeba", source_column=1, target_column=0, cache_dir=tmp_path)
    assert [(p.target, p.source, p.line) for p in turned] == list(pairs)


# -- bad lines ----------------------------------------------------------------------------------

HEAD = "source\ttarget\nGo.\tVe.\n"


@pytest.mark.parametrize(
    "name, text, line, why",
    [
        ("a.tsv", HEAD + "Hi.\nHi.\tHola.\n", 3, "has 1 columns, and column 1"),
        ("a.tsv", HEAD + "Hi.\t \nHi.\tHola.\n", 3, "has an empty target"),
        ("a.tsv", HEAD + "\tHola.\nHi.\tHola.\n", 3, "has an empty source"),
        ("a.tsv", HEAD + "\t\nHi.\tHola.\n", 3, "has an empty source"),
        ("a.tsv", HEAD.encode() + b"Hi.\tAdi\xf3s\nHi.\tHola.\n", 3, "target.*0xf3.*not UTF-8"),
        ("a.csv", 'source,target\nGo.,Ve.\nHi,"Ho"la\nHi.,Hola.\n', 3, "is not CSV"),
        ("a.csv", "source,target\nGo.,Ve.\nHi.\nHi.,Hola.\n", 3, "has 1 columns"),
        ("a.jsonl", JSON_GO + "Hi\n" + JSON_HI, 2, "is not JSON"),
        ("a.jsonl", JSON_GO + "[1]\n" + JSON_HI, 2, "is a list"),
        ("a.jsonl", JSON_GO + '{"source": "Hi."}\n' + JSON_HI, 2, "no text 'target' .*source"),
        ("a.jsonl", JSON_GO + '{"source": "Hi.", "target": 3}\n' + JSON_HI, 2, "no text 'target'"),
        (
            "a.jsonl",
            JSON_GO + '{"source": "Hi.", "target": "\\ud800"}\n' + JSON_HI,
            2,
            "half of a surrogate",
        ),
    ],
)
def test_a_bad_line_is_named_and_skipped_only_if_asked(tmp_path, name, text, line, why):
    path = write(tmp_path / name, text)
    with pytest.raises(DataError, match=rf"{name}, line {line} .*{why}.*skip_bad=True"):
        read_pairs(path)
    pairs = read_pairs(path, skip_bad=True)
    assert [(p.source, p.target) for p in pairs] == [("Go.", "Ve."), ("Hi.", "Hola.")]
    assert [bad.line for bad in pairs.skipped] == [line]
    [note] = pairs.notes
    assert f"Bad lines skipped: 1 (line {line}" in note


def test_an_empty_side_of_parallel_files_is_bad(tmp_path):
    one, other = write(tmp_path / "a.en", "Go.\nHi.\n"), write(tmp_path / "a.es", "Ve.\n\n")
    with pytest.raises(DataError, match="line 2 has an empty target"):
        read_pairs(f"{one},{other}")
    assert list(read_pairs(f"{one},{other}", skip_bad=True)) == TWO[:1]


@pytest.mark.parametrize(
    "name, text, columns, message",
    [
        ("a.tsv", b"\xff\xfeG\x00", {}, "is UTF-16.*iconv -f UTF-16"),
        ("a.tsv", "en\tes\nGo.\tVe.\n", {}, "Unknown column 'source'.*source_column=0"),
        ("a.tsv", "", {}, "Unknown column 'source'"),
        ("a.tsv", "source\ttarget\n", {}, "has no pair of sentences"),
        ("a.tsv", "source\ttarget\nGo.\n", {}, "[Ll]ine 2 has 1 columns"),
        ("a.csv", 'source,target\nGo.,"Ve.\nHi.,Hola.\n', {}, "line 2: a quotation mark is opened"),
        ("a.tsv.gz", "not gzip", {}, "not a whole gzip file"),
        ("a.txt", "Go.\tVe.\n", {}, "Unknown file type '.txt'.*a.en,a.es"),
        ("a.jsonl", "{}", {"source_column": 0, "target_column": 1}, "have names, not numbers"),
        ("a.tsv", HEAD, {"source_column": -1}, "counted from 0"),
        ("a.tsv", HEAD, {"source_column": "target", "target_column": "target"}, "Name two columns"),
    ],
)
@pytest.mark.parametrize("skip_bad", [False, True])
def test_what_no_skipping_helps(tmp_path, name, text, columns, message, skip_bad):
    path = write(tmp_path / name, text)
    with pytest.raises(DataError, match=message):
        read_pairs(path, skip_bad=skip_bad, **columns)


def test_names_that_lead_nowhere(tmp_path):
    with pytest.raises(DataError, match="Did you mean 'tatoeba'"):
        read_pairs("tatoba")
    with pytest.raises(DataError, match="Unknown package of pairs 'wikitext2'"):
        read_pairs("package:wikitext2")
    one = write(tmp_path / "a.en", "Go.\nHi.\n")
    with pytest.raises(DataError, match=r"No file .*a\.es"):
        read_pairs(f"{one},{tmp_path / 'a.es'}")
    other = write(tmp_path / "a.es", "Ve.\n")
    with pytest.raises(DataError, match=r"has 2 lines and .*a\.es has 1"):
        read_pairs(f"{one},{other}", skip_bad=True)
    with pytest.raises(DataError, match="no columns"):
        read_pairs(f"{one},{other}", source_column=0)


def test_columns_of_json_lines_by_name(tmp_path):
    rows = [{"en": f"one {n}", "es": f"uno {n}"} for n in range(5)]
    path = write(tmp_path / "a.jsonl", "\n".join(json.dumps(row) for row in rows))
    pairs = read_pairs(path, **EN_ES)
    assert [(p.source, p.target) for p in pairs] == [(row["en"], row["es"]) for row in rows]
