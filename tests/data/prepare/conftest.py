"""A prepared folder that many tests read."""

from __future__ import annotations

import pytest

from maskwright.data.prepare import prepare
from tests.data.prepare import texts


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    return texts.write_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="session")
def whole(tmp_path_factory, source):
    """Prepared in one go in this process; not to be changed."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    prepare(source, texts.small_tokenizer(), folder, texts.WITH_PHRASES)
    return folder
