"""load_corpus: every kind of source, and every way that one can be wrong."""

import json

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from maskwright.data.sources import load_corpus
from maskwright.errors import DataError, MissingExtra

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
TEXTS = [f"Document {a} {b}." for a in WORDS for b in WORDS]


def everything(corpus):
    return sorted(sum(corpus.splits.values(), ()))


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


# -- each kind ----------------------------------------------------------------------------


def test_text_file_is_divided_at_blank_lines(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf\n\nOne\nline two\n\n\n  \nTwo\r\n\r\nThree \xc3\xa9\n")
    assert everything(load_corpus(str(path))) == ["One\nline two", "Three é", "Two"]


def test_folder_of_text_files_is_one_document_each(tmp_path):
    for name in WORDS:
        (tmp_path / f"{name}.txt").write_text(f"{name}\n\nmore of {name}")
    (tmp_path / "ignored.md").write_text("not this")
    corpus = load_corpus(str(tmp_path))
    assert everything(corpus) == sorted(f"{name}\n\nmore of {name}" for name in WORDS)


def test_jsonl_csv_and_parquet_are_one_document_a_row(tmp_path):
    texts = [*TEXTS, 'a "quoted", é\u2028 text\nof two lines', "x" * 200_000]
    jsonl = write_jsonl(tmp_path / "a.jsonl", [{"body": text, "n": 1} for text in texts])
    quoted = [text.replace('"', '""') for text in texts]
    (tmp_path / "a.csv").write_text("n,body\n" + "".join(f'1,"{text}"\n' for text in quoted))
    parquet.write_table(pa.table({"body": texts}), tmp_path / "a.parquet")
    for path in (jsonl, tmp_path / "a.csv", tmp_path / "a.parquet"):
        corpus = load_corpus(str(path), text_column="body")
        assert everything(corpus) == sorted(texts), path
        assert corpus.fingerprint == load_corpus(jsonl, text_column="body").fingerprint


def test_hub_layout_in_a_local_folder(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", [{"text": text} for text in TEXTS])
    write_jsonl(folder / "validation.jsonl", [{"text": "held out"}, {"text": None}])
    corpus = load_corpus(f"hf:{folder}")
    assert corpus.splits["validation"] == ("held out",)
    assert sorted(corpus.splits["train"] + corpus.splits["test"]) == sorted(TEXTS)
    assert len(corpus.splits["test"]) > 0
    assert any("no test split" in note for note in corpus.notes)
    with pytest.raises(DataError, match="Did you mean 'text'"):
        load_corpus(f"hf:{folder}", text_column="tex")


def test_hub_names_its_failure_and_the_remedy():
    with pytest.raises(DataError, match=r"hf:nobody/nothing cannot be loaded.*give a local folder"):
        load_corpus("hf:nobody/nothing")


def test_hub_tries_owner_and_name_before_name_and_configuration(monkeypatch):
    import datasets

    asked = []

    def load(path, config):
        asked.append((path, config))
        if config is None:
            raise FileNotFoundError("not there\nsecond line")
        rows = datasets.Dataset.from_dict({"text": TEXTS})
        held_out = datasets.Dataset.from_dict({"text": ["held out", TEXTS[0]]})
        return datasets.DatasetDict({"train": rows, "unsupervised": rows, "dev": held_out})

    monkeypatch.setattr(datasets, "load_dataset", load)
    corpus = load_corpus("hf:glue/sst2")
    assert asked == [("glue/sst2", None), ("glue", "sst2")]
    assert corpus.splits["validation"] == ("held out", TEXTS[0])
    assert TEXTS[0] not in corpus.splits["train"]
    assert "Splits not used: unsupervised." in corpus.notes


# -- cleaning -----------------------------------------------------------------------------


def test_empty_documents_and_duplicates_are_dropped_and_counted(tmp_path):
    rows = [{"text": text} for text in [*TEXTS, "", " \n ", "Document  one\none. ", TEXTS[5]]]
    corpus = load_corpus(write_jsonl(tmp_path / "a.jsonl", rows))
    assert everything(corpus) == sorted(TEXTS)
    assert corpus.notes == (
        "2 empty documents dropped.",
        "2 exact duplicate documents dropped.",
    )


def test_a_clean_corpus_has_no_notes(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in TEXTS])
    corpus = load_corpus(path)
    assert corpus.notes == ()
    assert corpus.name == path
    assert all(corpus.splits.values())


def test_the_fingerprint_is_of_the_content(tmp_path):
    rows = [{"text": text} for text in TEXTS]
    first = load_corpus(write_jsonl(tmp_path / "a.jsonl", rows))
    assert load_corpus(write_jsonl(tmp_path / "b.jsonl", rows)).fingerprint == first.fingerprint
    changed = load_corpus(write_jsonl(tmp_path / "c.jsonl", [*rows, {"text": "more"}]))
    assert changed.fingerprint != first.fingerprint
    assert len(first.fingerprint) == 64


def test_a_source_of_test_text_alone_is_divided_and_says_so(tmp_path, monkeypatch):
    import datasets

    rows = datasets.Dataset.from_dict({"text": TEXTS})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: datasets.DatasetDict({"test": rows}))
    corpus = load_corpus("hf:anything")
    assert len(corpus.splits["train"]) > 80
    assert everything(corpus) == sorted(TEXTS)
    assert corpus.notes == ("The source has no training text, so its test split was divided.",)


# -- what can be wrong --------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, data, message",
    [
        ("a.txt", b"", "has no text in it"),
        ("a.txt", b" \n\n ", "has no text in it"),
        ("a.jsonl", b"", "has no text in it"),
        ("a.csv", b"", "has no text in it"),
        ("a.csv", b"text\n", "has no text in it"),
        ("a.txt", b"ok\n\nna\xefve\n", r"a\.txt, line 3, byte 6: 0xef is not UTF-8.*iconv"),
        ("a.jsonl", b'{"text": "a"}\n{"text"', r"line 2 is not JSON"),
        ("a.jsonl", b'["a"]', r"line 1 is a list, not an object"),
        ("a.jsonl", b'{"txt": "a"}', r"Unknown column 'text'. Did you mean 'txt'"),
        ("a.jsonl", b'{"text": 5}', r"column 'text' holds a int, not text"),
        ("a.jsonl", b'{"text": "a \\ud800"}', r"half of a surrogate pair at character 2"),
        ("a.csv", b"body\na\n", r"Unknown column 'text'. Available: body.*text_column"),
        ("a.csv", b'text\n"a', r"near line 1: not CSV"),
        ("a.parquet", b"PAR1", r"not a readable Parquet file"),
        ("a.jsn", b"", r"Unknown file type '.jsn'. Did you mean '.jsonl'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        load_corpus(str(tmp_path / name))


def test_a_folder_without_text_files(tmp_path):
    with pytest.raises(DataError, match=r"has no \.txt file in it"):
        load_corpus(str(tmp_path))


def test_a_wrong_parquet_column(tmp_path):
    parquet.write_table(pa.table({"text": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="row 0: column 'text' holds a int"):
        load_corpus(str(tmp_path / "a.parquet"))
    with pytest.raises(DataError, match=r"Unknown column 'body'. Available: text"):
        load_corpus(str(tmp_path / "a.parquet"), text_column="body")


def test_an_unknown_name_suggests_one():
    with pytest.raises(DataError, match="Did you mean 'state-of-the-union'"):
        load_corpus("state-of-union")


def test_one_document_is_all_training_text_and_says_so(tmp_path):
    (tmp_path / "a.txt").write_text("just one")
    corpus = load_corpus(str(tmp_path / "a.txt"))
    assert corpus.splits == {"train": ("just one",), "validation": (), "test": ()}
    assert "cannot be divided" in corpus.notes[0]
    with pytest.raises(DataError, match=r"no documents in its validation split.*blank lines"):
        corpus.documents("validation")


def test_a_missing_library_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"maskwright\[lab\]"):
        load_corpus("hf:anything")


def test_wikitext2_must_be_fetched_first(tmp_path):
    with pytest.raises(DataError, match="Run: maskwright data get wikitext2"):
        load_corpus("wikitext2", cache_dir=tmp_path)
