"""Plans as people see them, in literal cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from maskwright import Clock, Masking, MaskPlan, Ragged, TokenBatch
from maskwright.corruption import Action
from maskwright.corruption.show import TokenView, token_views
from tests.corruption.rows import WORDS
from tests.strategies import draws_of_masks

NAMES = {0: "[PAD]", 2: "[CLS]", 3: "[SEP]", 4: "[MASK]", 5: "the", 6: "dog", 7: "ran", 8: "off"}


class Words:
    """As much of a tokenizer as is asked for."""

    all_special_ids = (0, 1, 2, 3, 4)

    def convert_ids_to_tokens(self, token_id):
        return NAMES.get(token_id, f"<{token_id}>")

    def decode(self, ids):
        return f" {self.convert_ids_to_tokens(ids[0])}"


def plan_of(rows, decisions, *, units=None, inserts=(), order=None) -> MaskPlan:
    """A plan of (flat position, action, replacement)."""
    batch = TokenBatch(Ragged.from_lists(rows), np.arange(10, 10 + len(rows)))
    positions, actions, replacements = (
        np.array([d[i] for d in decisions], dtype)
        for i, dtype in enumerate((np.int64, np.uint8, np.int64))
    )
    return MaskPlan(
        batch, Masking().bind(WORDS), Clock(), positions, actions, replacements,
        np.full(len(rows), 0.15), None if units is None else np.array(units),
        np.array([i[0] for i in inserts], np.int64), np.array([i[1] for i in inserts], np.int64),
        None if order is None else np.array(order),
    )  # fmt: skip


IN_PLACE = plan_of(
    [[2, 5, 6, 7, 8, 3], [5]],
    [(1, Action.MASK, 4), (2, Action.RANDOM, 8), (3, Action.KEEP, 7)],
)
MOVING = plan_of(
    [[2, 5, 6, 7, 8, 3]],
    [(1, Action.INFILL, 4), (2, Action.INFILL, -1), (4, Action.DELETE, -1)],
    units=[0, 0, 1],
    inserts=[(3, 6)],
)


def test_views_of_what_stays_in_place():
    assert token_views(IN_PLACE, 0, Words()) == [
        TokenView("[CLS]", "untouched"),
        TokenView("[MASK]", "masked", " the"),
        TokenView(" off", "random", " dog"),
        TokenView(" ran", "kept", " ran"),
        TokenView(" off", "untouched"),
        TokenView("[SEP]", "untouched"),
    ]
    assert token_views(IN_PLACE, 1, Words()) == [TokenView(" the", "untouched")]


def test_views_of_what_moves():
    assert token_views(MOVING, 0, Words()) == [
        TokenView("[CLS]", "untouched"),
        TokenView("[MASK]", "infilled", " the dog"),
        TokenView(" dog", "inserted"),
        TokenView(" ran", "untouched"),
        TokenView(" off", "deleted", " off"),
        TokenView("[SEP]", "untouched"),
    ]


def test_a_sentinel_stands_for_its_unit_only():
    plan = plan_of(
        [[5, 6, 7]],
        [(0, Action.SENTINEL, 1), (1, Action.SENTINEL, -1), (2, Action.SENTINEL, 0)],
        units=[0, 0, 1],
    )
    assert token_views(plan, 0, Words()) == [
        TokenView("<1>", "sentinel", " the dog"),
        TokenView("[PAD]", "sentinel", " ran"),
    ]


def test_a_rearrangement_is_marked_where_the_order_jumps():
    plan = plan_of([[5], [5, 6, 7, 8]], [(3, Action.DELETE, -1)], order=[0, 3, 4, 1, 2])
    views = token_views(plan, 1, Words())
    assert [view.text for view in views] == [" ran", " off", " the", " dog"]
    assert [view.moved for view in views] == [True, False, True, False]
    assert views[0].state == "deleted"
    assert plan.show(Words()).plain.splitlines()[2] == (
        "sample 11 (1 of 4 selected):  ⇄  [-ran-] off ⇄  the dog"
    )


def test_the_plain_text():
    assert IN_PLACE.show(Words()).plain.splitlines()[1:] == [
        "sample 10 (3 of 6 selected): [CLS][MASK]‹the› off‹dog› ran‹=› off[SEP]",
        "sample 11 (0 of 1 selected):  the",
    ]
    assert MOVING.show(Words()).plain.splitlines()[1] == (
        "sample 10 (3 of 6 selected): [CLS][MASK]‹the dog› {+dog+} ran [-off-][SEP]"
    )


def test_without_a_tokenizer_tokens_are_ids():
    assert IN_PLACE.show().plain.splitlines()[1] == (
        "sample 10 (3 of 6 selected):  2 4‹5› 8‹6› 7‹=› 8 3"
    )


def test_colours_are_added_to_the_plain_text_and_nothing_else():
    import re

    for plan in (IN_PLACE, MOVING):
        shown = plan.show(Words())
        assert re.sub(r"\x1b\[[\d;]*m", "", shown.ansi) == shown.plain
    assert "\x1b[9;31m[-off-]\x1b[0m" in MOVING.show(Words()).ansi  # 9: struck through
    assert "\x1b[7;33m[MASK]‹the›\x1b[0m" in IN_PLACE.show(Words()).ansi


def test_colour_only_in_a_terminal(monkeypatch):
    shown = IN_PLACE.show(Words())
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert str(shown) == repr(shown) == shown.ansi
    monkeypatch.setenv("NO_COLOR", "1")
    assert str(shown) == shown.plain
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert str(shown) == shown.plain


def test_rows_that_are_left_out_are_counted():
    shown = IN_PLACE.show(Words(), rows=1)
    assert len(shown.samples) == 1
    assert shown.plain.endswith("… and 1 more samples")
    assert "and 1 more" in shown._repr_html_()
    assert "more" not in IN_PLACE.show(Words()).plain


def test_html_is_escaped_and_needs_no_style_sheet(monkeypatch):
    monkeypatch.setitem(NAMES, 6, "<script>&\x1b[2J\n")
    page = MOVING.show(Words())._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;&amp;\\x1b[2J⏎" in page
    assert 'text-decoration:line-through" title="deleted">[-off-]</del>' in page
    assert "class=" not in page
    assert "one mask‹all it stands for›" in page  # the legend
    assert "replaced at random" not in page  # of what is there
    assert "<style" not in page


def test_a_token_cannot_move_the_cursor(monkeypatch):
    monkeypatch.setitem(NAMES, 6, "a\x1b[2J\tb")
    shown = MOVING.show(Words())
    assert "\x1b" not in shown.plain
    assert "a\\x1b[2J⇥b" in shown.plain


def test_a_notebook_shows_a_plan_by_its_ids():
    assert " <span" in IN_PLACE._repr_html_()
    assert "4‹5›" in IN_PLACE._repr_html_()


@pytest.mark.parametrize("rows", [[], [[]]])
def test_nothing_to_show(rows):
    shown = plan_of(rows, []).show(Words())
    assert shown.plain
    assert shown._repr_html_()


@given(draws_of_masks())
def test_the_views_are_the_corrupted_tokens(drawn):
    masking, batch, clock = drawn
    plan = masking.plan(batch, clock)
    for row in range(len(batch)):
        texts = [view.text for view in token_views(plan, row) if view.state != "deleted"]
        assert texts == [f" {token}" for token in plan.corrupted[row].tolist()]
