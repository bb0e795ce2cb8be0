"""A file is put in its place whole, or what stood there still stands."""

from __future__ import annotations

import pytest

from maskwright.errors import SaveError
from maskwright.placing import place_bytes, placing


def test_it_replaces_what_stood_there_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "a"
    assert place_bytes(path, b"one") == path
    place_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("else")])
def test_a_failure_leaves_what_stood_there(tmp_path, error):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail():
        with placing(path) as temporary:
            temporary.write_bytes(b"half")
            raise error

    expected = SaveError if isinstance(error, OSError) else ValueError
    with pytest.raises(expected, match=r"No space left on device|else"):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SaveError, match=r"file.*cannot be written.*nothing was left half-written"):
        place_bytes(tmp_path / "file" / "a", b"")
