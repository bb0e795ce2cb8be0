"""The gallery shows every pattern of the library, as it is."""

from __future__ import annotations

import pytest

from maskwright.attention.names import NAMES
from maskwright.attention.pattern import atoms
from scripts import gallery


@pytest.fixture(scope="module")
def rendered():
    return gallery.render()


def test_the_gallery_is_what_its_script_writes(rendered):
    told = "run python scripts/gallery.py"
    for path, text in rendered.items():
        assert path.is_file(), f"{path.name} is missing: {told}"
        assert path.read_text("utf-8") == text, f"{path.name} is out of date: {told}"
    kept = set((gallery.DOCS / "gallery").iterdir())
    assert kept == {path for path in rendered if path.suffix == ".svg"}, told


def test_every_pattern_of_the_library_is_drawn_once():
    assert sorted(one.name for one in gallery.examples()) == sorted(NAMES)


def test_every_example_is_of_its_pattern():
    """A rule stands in its example; a composition is what its function returns."""
    composed = {"longformer", "bigbird", "streaming_sink", "two_stream"}
    for one in gallery.examples():
        spelled = {atom.spelled for atom in atoms(one.pattern)}
        assert one.name in spelled or one.name in composed, one.name
    assert composed <= set(NAMES)


def test_another_pattern_gives_another_picture(rendered):
    pictures = [text for path, text in rendered.items() if path.suffix == ".svg"]
    assert len(set(pictures)) == len(pictures)
