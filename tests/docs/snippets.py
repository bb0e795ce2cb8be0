"""Takes the runnable blocks out of a Markdown page, and runs them as a reader would.

A ``python`` block runs. After the comment ``<!-- no-test: reason -->`` it does not.

A ``console`` block runs only after the comment ``<!-- run -->``. Its lines that start with
``$ maskwright`` are the commands; other lines are output, and are not compared.

The blocks of one page run in order, share one namespace and one empty working directory.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

COMMAND = "maskwright"
_FENCE = re.compile(r"^(?P<indent>[ ]*)(?P<ticks>`{3,})(?P<info>[^`]*)$")
_NO_TEST = re.compile(r"^<!--\s*no-test\b\s*:?\s*(?P<reason>.*?)\s*-->$", re.DOTALL)
_RUN = re.compile(r"^<!--\s*run\s*-->$")
_SHELL = re.compile(r"^[|&;<>]+$")


class SnippetError(Exception):
    """A page says something that cannot be run as it stands."""


@dataclass(frozen=True)
class Snippet:
    """One runnable block; ``line`` is the first line of its text, from 1."""

    path: Path
    line: int
    kind: Literal["python", "console"]
    text: str
    skip: str | None = None

    @property
    def where(self) -> str:
        return f"{self.path}:{self.line}"


def extract(path: Path) -> list[Snippet]:
    """The runnable blocks of a page, in order."""
    return list(_extract(path, path.read_text(encoding="utf-8").splitlines()))


def _extract(path: Path, lines: list[str]) -> Iterator[Snippet]:
    at = 0
    while at < len(lines):
        fence = _FENCE.match(lines[at])
        if fence is None:
            at += 1
            continue
        end = _end_of_block(lines, at, len(fence["ticks"]))
        if end is None:
            raise SnippetError(f"{path}:{at + 1}: this block is never closed")
        language = (fence["info"].split() or [""])[0]
        comment = _comment_before(lines, at)
        text = textwrap.dedent("\n".join(lines[at + 1 : end])) + "\n"
        line = at + 2
        no_test = _NO_TEST.match(comment)
        if no_test and not no_test["reason"]:
            raise SnippetError(f"{path}:{line}: say why: <!-- no-test: reason -->")
        marked = _RUN.match(comment) is not None
        if marked and language != "console":
            raise SnippetError(f"{path}:{line}: <!-- run --> stands before a {language!r} block")
        if language == "python":
            yield Snippet(path, line, "python", text, no_test["reason"] if no_test else None)
        elif marked:
            yield Snippet(path, line, "console", text)
        at = end + 1


def _end_of_block(lines: list[str], start: int, ticks: int) -> int | None:
    for at in range(start + 1, len(lines)):
        stripped = lines[at].strip()
        if len(stripped) >= ticks and set(stripped) == {"`"}:
            return at
    return None


def _comment_before(lines: list[str], at: int) -> str:
    """The HTML comment that ends on the last line above that is not blank, or nothing."""
    above = at - 1
    while above >= 0 and not lines[above].strip():
        above -= 1
    if above < 0 or not lines[above].rstrip().endswith("-->"):
        return ""
    first = above
    while first >= 0 and "<!--" not in lines[first]:
        first -= 1
    return "\n".join(lines[max(first, 0) : above + 1]).strip()


def commands(snippet: Snippet) -> list[list[str]]:
    """The commands of a console block, split as a shell would, but run without one."""
    found = []
    lines = iter(snippet.text.splitlines())
    for line in lines:
        if not line.startswith("$ "):
            continue
        typed = line[2:]
        while typed.endswith("\\"):
            typed = typed[:-1] + next(lines, "")
        lexer = shlex.shlex(typed, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
        if words[:1] != [COMMAND]:
            raise SnippetError(
                f"{snippet.where}: a block marked <!-- run --> holds {COMMAND} commands only, "
                f"not: {typed}"
            )
        shell = [word for word in words if _SHELL.match(word)]
        if shell:
            raise SnippetError(f"{snippet.where}: no shell runs this, so {shell[0]!r} cannot work")
        found.append(words)
    if not found:
        raise SnippetError(f"{snippet.where}: marked <!-- run -->, but no line starts with $")
    return found


def run(snippets: list[Snippet], directory: Path, *, command: Path | None = None) -> list[str]:
    """Run a page's blocks in order; the reasons of those left out. A block that fails raises.

    The caller makes ``directory`` the working directory.
    """
    script = command or Path(sys.executable).parent / COMMAND
    namespace: dict[str, object] = {"__name__": "__main__"}
    left_out = []
    for snippet in snippets:
        if snippet.skip is not None:
            left_out.append(f"{snippet.where}: {snippet.skip}")
        elif snippet.kind == "python":
            # Blank lines first, so that a traceback names the line of the page.
            padded = "\n" * (snippet.line - 1) + snippet.text
            exec(compile(padded, str(snippet.path), "exec"), namespace)
        else:
            for words in commands(snippet):
                _run_command(snippet, [str(script), *words[1:]], directory)
    return left_out


def _run_command(snippet: Snippet, words: list[str], directory: Path) -> None:
    done = subprocess.run(
        words,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        typed = shlex.join([COMMAND, *words[1:]])
        raise SnippetError(
            f"{snippet.where}: $ {typed}\nexit code {done.returncode}\n{done.stdout}{done.stderr}"
        )
