"""Alignment files, and links of words as links of tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.data.alignments import read_pharaoh, token_links, write_pharaoh
from maskwright.errors import DataError


def _file(folder: Path, text: str) -> Path:
    path = folder / "links.txt"
    path.write_bytes(text.encode())
    return path


def test_a_line_is_a_pair(tmp_path: Path) -> None:
    path = _file(tmp_path, "0-0 1-2\n\n2-1\r\n")
    assert read_pharaoh(path) == [[(0, 0), (2, 1)], [], [(1, 2)]]
    assert read_pharaoh(path, [2, 1, 3], [3, 1, 2]) == read_pharaoh(path)
    assert read_pharaoh(path, reverse=True) == [[(0, 0), (1, 2)], [], [(2, 1)]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0-0\n1-2 x\n", r"line 2: 'x' is no link"),
        ("0-0\n1-\n", r"line 2: '1-' is no link"),
        ("-1-0\n0-0\n", r"line 1: '-1-0' is no link"),
        ("0-0\n0-1 3-0\n", r"line 2: 3-0 links source word 3, but the source has 2 words, 0 to 1"),
        ("0-4\n0-1\n", r"line 1: 0-4 links target word 4, but the target has 3 words"),
        ("0-0\n", r"has 1 lines of alignments for 2 sources"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_pharaoh(_file(tmp_path, text), [2, 2], [3, 3])


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "latin"
    path.write_bytes(b"0-0\n\xf1")
    with pytest.raises(DataError, match=r"no text in UTF-8: byte 4 is 0xf1"):
        read_pharaoh(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_pharaoh(tmp_path / "missing")


@settings(max_examples=25)
@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9))), max_size=5))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, alignments: list[list[tuple[int, int]]]
) -> None:
    path = tmp_path_factory.mktemp("links") / "all"
    write_pharaoh(path, alignments)
    assert read_pharaoh(path) == alignments


def test_links_of_tokens() -> None:
    target, source = [0, 0, 1, None], [0, 1, 1, None]
    assert token_links([(0, 1), (1, 0)], target, source) == [(0, 1), (0, 2), (1, 1), (1, 2), (2, 0)]
    assert token_links([], target, source) == []
    with pytest.raises(DataError, match=r"the target has words 0 to 1"):
        token_links([(2, 0)], target, source)
    with pytest.raises(DataError, match=r"the source has words 0 to 1"):
        token_links([(0, 2)], target, source)
