"""Source to pattern and back, and sources that are none."""

from __future__ import annotations

import contextlib
import inspect

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import maskwright.attention as library
from maskwright.attention import (
    Axis,
    Pattern,
    aligned,
    bigbird,
    causal,
    copy_only,
    documents,
    from_json,
    full,
    global_tokens,
    monotonic_window,
    padding,
    parse,
    per_head,
    permutation,
    same,
    segments,
    to_json,
    top_k,
    visible,
    wait_k,
    window,
)
from maskwright.attention.names import NAMES
from maskwright.errors import PatternError
from tests.attention.strategies import attentions


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(attentions())
def test_every_source_is_read_back(attention):
    pattern, *_ = attention
    source = str(pattern)
    if "table(" in source:
        with pytest.raises(PatternError, match="contents of a table are not in its source"):
            parse(source)
        pattern = from_json(to_json(pattern))
        assert str(pattern) == source
    else:
        again = parse(source)
        assert again == pattern
        assert str(again) == source


READ = [
    ("causal", causal),
    (" causal\n", causal),
    ("(causal)", causal),
    ('causal("upper-left")', causal("upper-left")),
    ("causal(align='upper-left')", causal("upper-left")),
    ("causal()", causal),
    ("window(256)", window(256)),
    ("window(left=3, right=0)", window(3, 0)),
    ("window(255, 0) & documents", window(255, 0) & documents),
    ("causal & window(4) | global_tokens(0)", (causal & window(4)) | global_tokens(0)),
    ("causal & (window(4) | global_tokens(0))", causal & (window(4) | global_tokens(0))),
    ("~causal & padding", ~causal & padding),
    ("~(causal & padding)", ~(causal & padding)),
    ("~~causal", causal),
    ("causal &\n  padding\n", causal & padding),
    ("full & causal", causal),
    ("nothing | ~full", ~full),
    ("bigbird(64)", bigbird(64)),
    ("permutation(inclusive=False)", permutation(inclusive=False)),
    ("global_tokens(0, -1, size=2)", global_tokens(0, -1, size=2)),
    ("per_head([causal, causal & window(4)])", per_head([causal, causal & window(4)])),
    ("per_head((causal, full))", per_head([causal, full])),
    ("wait_k(3, rate=0.75)", wait_k(3, 0.75)),
    ("wait_k(3, 2.0)", wait_k(3, 2)),
    ("monotonic_window(2, rate=1.5)", monotonic_window(2, rate=1.5)),
    ("aligned([(0, 1), [1, 0]], radius=1)", aligned([(0, 1), (1, 0)], 1)),
    ("aligned([[(0, 1)], []])", aligned([[(0, 1)], []])),
    ("segments()", documents),
    ("segments({0: (0, 1), -1: +2})", segments({0: (0, 1), -1: 2})),
    ("copy_only((5, 7))", copy_only((5, 7))),
    ("copy_only", copy_only),
    ("visible([[1, 0], [1, 1]])", visible([[1, 0], [1, 1]])),
    ("top_k([[0.5, 0.25]], 1)", top_k([[0.5, 0.25]], 1)),
    ('same("a\\"b\\\\é")', same('a"b\\é')),
]


@pytest.mark.parametrize("source, pattern", READ, ids=[source for source, _ in READ])
def test_what_a_source_means(source, pattern):
    assert parse(source) == pattern


def test_long_rows_of_terms_are_not_nested():
    pattern = full
    for width in range(60):
        pattern = pattern & ~window(width)
    assert parse(str(pattern)) == pattern
    assert parse(" | ".join(["causal"] * 400)) == causal


WRONG = [
    ("", "The source of a pattern is empty", None),
    (" \n", "The source of a pattern is empty", None),
    ("causal & wndow(4)", "Unknown pattern 'wndow'. Did you mean 'window'?", "wndow"),
    ("causal & widow", "Did you mean 'window'?", "widow"),
    ("é_é & causal", "Unknown pattern 'é_é'", "é_é"),
    ('same("é") & cusal', "Did you mean 'causal'?", "cusal"),
    ("causal and padding", "`and` does not combine patterns: write &", "causal and padding"),
    ("full & (causal or padding)", "`or` does not combine patterns: write |", "causal or padding"),
    ("not causal", "`not` does not turn a pattern round: write ~", "not causal"),
    ("causal + padding", "write | for either, & for both", "causal + padding"),
    ("causal - padding", "Patterns are not subtracted: write & ~", "causal - padding"),
    ("causal < padding", "Comparisons have no meaning", "causal < padding"),
    ("causal & window", "window needs its settings: window(left, right=None", "window"),
    ("per_head([causal, window])", "window needs its settings", "window"),
    ("window()", "missing a required argument: 'left'", "window()"),
    ("window(1, 2, 'x', 4)", "too many positional arguments", "window(1, 2, 'x', 4)"),
    ("window(1, width=2)", "got an unexpected keyword argument 'width'", "window(1, width=2)"),
    ("full & full(1)", "full is full()", "full(1)"),
    ("causal & window(-1)", "left=-1 of window: it is a whole number", "window(-1)"),
    ("causal('left')", "align='left' of causal", "causal('left')"),
    ("padding(causal)", "side=causal of padding", "padding(causal)"),
    ("causal & 3", "3 is no pattern", "3"),
    ("~3", "3 is no pattern", "3"),
    ("'causal'", "'causal' is no pattern", "'causal'"),
    ("[causal]", "[causal] is no pattern", "[causal]"),
    ("causal &", "This is no expression", ""),
    ("causal)", "unmatched ')'", ")"),
    ("causal padding", "This is no expression", "p"),
    ("causal; padding", "This is no expression", ";"),
    ("window(3 & causal)", "3 is no pattern", "3"),
    ("window(1 + 2)", "Patterns are not added", "1 + 2"),
    ("window(2 ** 9)", "has no meaning in a pattern", "2 ** 9"),
    ("window(*[1])", "* and ** have no meaning", "*[1]"),
    ("window(**{'left': 1})", "* and ** have no meaning", "**{'left': 1}"),
    ("causal.align", "has no meaning in a pattern", "causal.align"),
    ("causal.__class__.__bases__", "has no meaning", "causal.__class__.__bases__"),
    ("[causal for _ in full]", "has no meaning", "[causal for _ in full]"),
    ("(lambda: causal)()", "Only a name of the library can be called", "lambda: causal"),
    ("window(1)(2)", "Only a name of the library can be called", "window(1)"),
    ("__import__('os')", "Unknown pattern '__import__'", "__import__"),
    ("causal if full else padding", "has no meaning", "causal if full else padding"),
    ("(a := causal)", "has no meaning", "a := causal"),
    ("f'{causal}'", "has no meaning", "f'{causal}'"),
    ("same(b'x')", "has no meaning", "b'x'"),
    ("window(1j)", "has no meaning", "1j"),
    ("window(...)", "has no meaning", "..."),
    ("segments({0: 1, 0: 2})", "0 stands twice", "0"),
    ("segments({(0, 1): 2})", "Keys of a dictionary are whole numbers or strings", "(0, 1)"),
    ("segments({**{}})", "Keys of a dictionary", "{}"),
    ('visible(table("1×1×2×2 0123"))', "not in its source", 'table("1×1×2×2 0123")'),
    ("table", "Unknown pattern 'table'", "table"),
    ("causal\0", "This is no expression", None),
    ("window(" + "9" * 5000 + ")", "This is no expression", None),
    ("(" * 300 + "causal" + ")" * 300, "This is no expression: too many nested parentheses", None),
    ("~" * 50_000 + "causal", "nested too deeply", None),
    ("same('\ud800')", "cannot be read", None),
    (3, "is a string, not int: 3", None),
    (None, "is a string, not NoneType", None),
    (causal, "is a string, not Causal: causal", None),
]  # fmt: skip


@pytest.mark.parametrize("source, message, marked", WRONG, ids=[str(w[0])[:30] for w in WRONG])
def test_what_is_no_source(source, message, marked):
    with pytest.raises(PatternError) as caught:
        parse(source)
    shown = str(caught.value)
    assert message in shown
    if marked is None:
        return
    *_, line, marks = shown.split("\n")
    assert line == f"  {source}"
    start = marks.index("^")
    assert marks[start:] == "^" * max(len(marked), 1)
    assert line[start : start + len(marked)] == marked


def test_a_long_source_is_shown_in_part():
    source = " & ".join(f"window({n})" for n in range(100)) + " & cusal & " + "~padding & " * 30
    with pytest.raises(PatternError) as caught:
        parse(source + "causal")
    *_, line, marks = str(caught.value).split("\n")
    assert line[marks.index("^") : marks.rindex("^") + 1] == "cusal"
    assert line.startswith("  …")
    assert line.endswith("…")
    assert len(line) < 120


@given(st.text(max_size=30) | st.text("causl&|~()window[]{},:0123 '\"=.*", max_size=40))
def test_any_text_is_a_pattern_or_a_pattern_error(text):
    with contextlib.suppress(PatternError):
        assert isinstance(parse(text), Pattern)


def _builds_patterns(value: object) -> bool:
    if isinstance(value, Pattern):
        return True
    return inspect.isfunction(value) and value.__annotations__.get("return") == "Pattern"


def test_every_exported_pattern_can_be_written():
    """The names of the library and the names of its sources are the same."""
    readers = {"parse", "from_json"}
    exported = {name: getattr(library, name) for name in library.__all__}
    builders = {name for name, value in exported.items() if _builds_patterns(value)} - readers
    assert builders == set(NAMES)
    assert all(NAMES[name] is exported[name] for name in NAMES)
    for name, value in NAMES.items():
        if isinstance(value, Pattern):
            assert (value.spelled, str(value)) == (name, name)


def test_the_rules_of_a_source_are_for_the_axes_of_any_task():
    pattern = parse("(wait_k(3) | global_tokens(0, side='kv')) & padding")
    mask = pattern.dense(Axis(2), Axis(4, valid=[True, True, True, False]))
    assert mask.int().tolist() == [[[[1, 1, 1, 0], [1, 1, 1, 0]]]]
