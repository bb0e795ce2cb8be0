"""Errors come out of another process as they went in."""

from __future__ import annotations

import errno
import pickle

import pytest

from maskwright.data.prepare.engine import Here, attempt, opened
from maskwright.errors import DataError, MissingExtra, SaveError


def broken(error):
    raise error


def full(_):
    raise SaveError("no room") from OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [DataError("bad line"), MissingExtra("pyarrow", "hf")])
def test_errors_survive_the_journey(error):
    with pytest.raises(type(error), match=str(error).replace("[", ".").replace("]", ".")):
        opened(pickle.loads(pickle.dumps(attempt(broken, error))))


def test_a_full_disk_keeps_its_number():
    with pytest.raises(SaveError, match="no room") as caught:
        opened(pickle.loads(pickle.dumps(attempt(full, None))))
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert caught.value.__cause__.strerror == "No space left on device"


def test_a_result_is_a_result():
    assert opened(attempt(abs, -3)) == 3
    assert list(Here().run(abs, [-1, 2])) == [1, 2]


def test_what_is_no_error_of_ours_is_raised_at_once():
    with pytest.raises(ZeroDivisionError):
        attempt(broken, ZeroDivisionError())
