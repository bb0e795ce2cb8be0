"""The docs test can fail: a broken snippet is seen."""

from __future__ import annotations

import textwrap
import traceback
from pathlib import Path

import pytest

from tests.docs.snippets import SnippetError, commands, extract, run


@pytest.fixture
def page(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "page.md"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A stand-in for the console script: notes its words, and fails when told to."""
    path = tmp_path / "maskwright"
    path.write_text(
        '#!/bin/sh\necho "$@" >> seen\nif [ "$1" = fail ]; then echo broken >&2; exit 3; fi\n'
    )
    path.chmod(0o755)
    return path


def test_a_failing_snippet_fails_and_names_the_line_of_the_page(page, tmp_path):
    path = page(
        """\
        # Title

        ```python
        a = 1
        assert a == 2
        ```
        """
    )
    with pytest.raises(AssertionError) as caught:
        run(extract(path), tmp_path)
    frame = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (frame.filename, frame.lineno) == (str(path), 5)


def test_a_snippet_that_does_not_parse_fails(page, tmp_path):
    with pytest.raises(SyntaxError):
        run(extract(page("```python\nif:\n```\n")), tmp_path)


def test_blocks_share_one_namespace_in_order(page, tmp_path):
    path = page(
        """\
        ```python
        seen = [1]
        ```

        - also inside a list:

          ```python title="second"
          seen.append(2)
          assert seen == [1, 2]
          ```
        """
    )
    assert len(extract(path)) == 2
    assert run(extract(path), tmp_path) == []


def test_other_languages_and_nested_fences_are_not_run(page):
    path = page(
        """\
        ```
        plain
        ```
        ```console
        $ maskwright --help
        ```
        ````markdown
        ```python
        raise RuntimeError
        ```
        ````
        """
    )
    assert extract(path) == []


def test_no_test_leaves_a_block_out_with_its_reason(page, tmp_path):
    path = page(
        """\
        <!-- no-test: needs
             a GPU -->

        ```python
        raise RuntimeError
        ```
        """
    )
    (reason,) = run(extract(path), tmp_path)
    assert reason.split() == [f"{path}:5:", "needs", "a", "GPU"]


def test_no_test_holds_for_the_next_block_only(page, tmp_path):
    path = page(
        """\
        <!-- no-test: wants a GPU -->
        ```python
        ```
        ```python
        raise RuntimeError("runs")
        ```
        """
    )
    with pytest.raises(RuntimeError, match="runs"):
        run(extract(path), tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- no-test -->\n```python\n```\n", "say why"),
        ("<!-- no-test: -->\n```python\n```\n", "say why"),
        ("```python\n1\n", "never closed"),
        ("<!-- run -->\n```python\n```\n", "stands before"),
    ],
)
def test_a_page_that_is_unclear_is_refused(page, text, message):
    with pytest.raises(SnippetError, match=message):
        extract(page(text))


def test_marked_console_blocks_run_their_commands(page, script, tmp_path):
    path = page(
        """\
        <!-- run -->
        ```console
        $ maskwright one "two words" \\
            --three
        some output
        $ maskwright four
        ```
        """
    )
    assert run(extract(path), tmp_path, command=script) == []
    assert (tmp_path / "seen").read_text().splitlines() == ["one two words --three", "four"]


def test_a_command_that_fails_is_seen_with_what_it_said(page, script, tmp_path):
    path = page("<!-- run -->\n```console\n$ maskwright fail\n```\n")
    with pytest.raises(SnippetError, match=r"exit code 3\nbroken"):
        run(extract(path), tmp_path, command=script)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("$ make demo", "maskwright commands only"),
        ("$ maskwright explain | head", r"'\|' cannot work"),
        ("$ maskwright explain > out", "'>' cannot work"),
        ("only output", "no line starts"),
    ],
)
def test_a_console_block_that_could_not_run_is_refused(page, line, message):
    (snippet,) = extract(page(f"<!-- run -->\n```console\n{line}\n```\n"))
    with pytest.raises(SnippetError, match=message):
        commands(snippet)
