"""From the source of a pattern back to the pattern, with nothing executed.

The source is read into Python's syntax tree, and only a few kinds of its nodes mean something:
the names of `NAMES`, calls of them with literals, ``&``, ``|``, ``~`` and parentheses.
"""

from __future__ import annotations

import ast
import inspect
import warnings
from collections.abc import Mapping
from typing import Any, NoReturn

from maskwright.attention.names import NAMES
from maskwright.attention.pattern import Named, Pattern
from maskwright.attention.table import Table
from maskwright.errors import PatternError, unknown

# Half the width of the part of a long source that an error shows.
_SHOWN = 50


def parse(source: str) -> Pattern:
    """The pattern that this is the source of: ``parse(str(pattern)) == pattern``.

    For configuration files and command lines. Patterns that hold a table cannot be written as
    source alone; `to_json` keeps them.

    Args:
        source: names of the library, called with literals, joined by ``&``, ``|``, ``~`` and
            parentheses.

    Raises:
        PatternError: it is something else; the message shows where.

    >>> parse("causal & window(256)")
    causal & window(256)
    """
    return read(source, {})


def read(source: str, tables: Mapping[str, Table]) -> Pattern:
    """As `parse`, with the tables that the source names, by `Table.name`.

    Raises:
        PatternError: as `parse`; or a table is not among them.
    """
    if not isinstance(source, str):
        raise PatternError(
            f"The source of a pattern is a string, not {type(source).__name__}: {source!r:.60}."
        )
    # one line, so that a place in it is one number
    line = "".join(" " if one in "\n\r\t\f\v" else one for one in source)
    line = line.strip(" ")
    return _Reader(line, tables).read()


class _Reader:
    """One source, and the way through its syntax tree."""

    def __init__(self, source: str, tables: Mapping[str, Table]) -> None:
        self.source = source
        self.tables = tables

    def read(self) -> Pattern:
        if not self.source:
            raise PatternError("The source of a pattern is empty. Everyone sees everyone: full.")
        try:
            with warnings.catch_warnings():
                # Python's advice on the syntax of what is not going to run
                warnings.simplefilter("ignore")
                tree = ast.parse(self.source, mode="eval")
            return self.pattern(tree.body)
        except SyntaxError as error:
            # what is missing at the end is on a second line, or nowhere
            offset = error.offset if error.lineno == 1 else None
            at = min(offset - 1 if offset else len(self.source), len(self.source))
            self.fail_at(f"This is no expression: {error.msg}.", at, at + 1)
        except (RecursionError, MemoryError):
            raise PatternError("The source of a pattern is nested too deeply to be read.") from None
        except ValueError as error:
            if isinstance(error, PatternError):
                raise
            raise PatternError(f"The source of a pattern cannot be read: {error}.") from None

    def pattern(self, node: ast.expr) -> Pattern:
        """What a node means as a pattern."""
        value = self.value(node)
        if isinstance(value, Pattern):
            return value
        if isinstance(node, ast.Name) and callable(value):
            self.fail(f"{node.id} needs its settings: {node.id}{_signature(value)}.", node)
        self.fail(f"{value!r:.60} is no pattern.", node)

    def value(self, node: ast.expr) -> Any:
        """What a node means: a pattern, a builder of them, or a literal."""
        match node:
            case ast.Name(id=name):
                if name not in NAMES:
                    self.fail(unknown("pattern", name, NAMES), node)
                return NAMES[name]
            case ast.BinOp(op=ast.BitAnd() | ast.BitOr()):
                return self.chain(node)
            case ast.UnaryOp(op=ast.Invert(), operand=operand):
                return ~self.pattern(operand)
            case ast.UnaryOp(
                op=ast.USub() | ast.UAdd() as sign, operand=ast.Constant(value=number)
            ):
                if isinstance(number, int | float) and not isinstance(number, bool):
                    return -number if isinstance(sign, ast.USub) else number
            case ast.Constant(value=value) if value is None or isinstance(value, int | float | str):
                return value
            case ast.List(elts=items):
                return [self.setting(one) for one in items]
            case ast.Tuple(elts=items):
                return tuple(self.setting(one) for one in items)
            case ast.Dict(keys=keys, values=values):
                return self.mapping(keys, values)
            case ast.Call():
                return self.call(node)
        self.fail(_refusal(node), node)

    def chain(self, node: ast.BinOp) -> Pattern:
        """Terms joined by one operator: a loop, so that a long row of them is not nested."""
        terms: list[ast.expr] = []
        kind = type(node.op)
        first: ast.expr = node
        while isinstance(first, ast.BinOp) and isinstance(first.op, kind):
            terms.append(first.right)
            first = first.left
        result = self.pattern(first)
        for term in reversed(terms):
            other = self.pattern(term)
            result = result & other if kind is ast.BitAnd else result | other
        return result

    def mapping(self, keys: list[ast.expr | None], values: list[ast.expr]) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key, value in zip(keys, values, strict=True):
            name = self.value(key) if isinstance(key, ast.Constant | ast.UnaryOp) else None
            if not isinstance(name, int | str):
                self.fail("Keys of a dictionary are whole numbers or strings.", key or value)
            if name in found:
                self.fail(f"{name!r} stands twice in this dictionary.", key or value)
            found[name] = self.setting(value)
        return found

    def call(self, node: ast.Call) -> Any:
        if not isinstance(node.func, ast.Name):
            self.fail("Only a name of the library can be called.", node.func)
        name = node.func.id
        for one in (*node.args, *node.keywords):
            if isinstance(one, ast.Starred) or (isinstance(one, ast.keyword) and one.arg is None):
                self.fail("* and ** have no meaning here: write the settings out.", one)
        args = [self.setting(one) for one in node.args]
        options = {one.arg: self.setting(one.value) for one in node.keywords if one.arg}
        if name == "table":
            return self.table(node, args)
        if name not in NAMES:
            self.fail(unknown("pattern", name, NAMES), node.func)
        builder = NAMES[name]
        called = type(builder) if isinstance(builder, Named) else builder
        try:
            inspect.signature(called).bind(*args, **options)
        except TypeError as error:
            self.fail(f"{name} is {name}{_signature(called)}: {error}.", node)
        try:
            return builder(*args, **options)
        except PatternError as error:
            self.fail(str(error), node)
        except (TypeError, OverflowError) as error:
            self.fail(f"{name} cannot be built from these settings: {error}.", node)

    def setting(self, node: ast.expr) -> Any:
        value = self.value(node)
        if callable(value) and not isinstance(value, Pattern):
            return self.pattern(node)  # which says what it needs
        return value

    def table(self, node: ast.Call, args: list[Any]) -> Table:
        found = self.tables.get(args[0]) if len(args) == 1 and isinstance(args[0], str) else None
        if found is None:
            self.fail(
                "The contents of a table are not in its source. Keep such a pattern with "
                "to_json(pattern), and read it with from_json.",
                node,
            )
        return found

    def fail(self, message: str, node: ast.AST) -> NoReturn:
        """Raises `PatternError` with the place of a node."""
        encoded = self.source.encode()
        # the columns of a syntax tree count bytes
        start = len(encoded[: getattr(node, "col_offset", 0)].decode())
        end = len(encoded[: getattr(node, "end_col_offset", None) or 1].decode())
        self.fail_at(message, start, end)

    def fail_at(self, message: str, start: int, end: int) -> NoReturn:
        first, last = max(start - _SHOWN, 0), min(start + _SHOWN, len(self.source))
        before = "…" if first else ""
        after = "…" if last < len(self.source) else ""
        marks = "^" * max(min(end, last) - start, 1)
        raise PatternError(
            f"{message}\n  {before}{self.source[first:last]}{after}\n"
            f"  {' ' * (len(before) + start - first)}{marks}"
        ) from None


def _signature(builder: Any) -> str:
    """The settings of a rule, without types."""
    shown = [
        one.replace(annotation=inspect.Parameter.empty)
        for one in inspect.signature(builder).parameters.values()
    ]
    return str(inspect.Signature(shown))


def _refusal(node: ast.expr) -> str:
    """Why a kind of node has no meaning here, and what to write instead."""
    match node:
        case ast.BoolOp(op=op):
            word, sign = ("and", "&") if isinstance(op, ast.And) else ("or", "|")
            return f"`{word}` does not combine patterns: write {sign}."
        case ast.UnaryOp(op=ast.Not()):
            return "`not` does not turn a pattern round: write ~."
        case ast.BinOp(op=ast.Add()):
            return "Patterns are not added: write | for either, & for both."
        case ast.BinOp(op=ast.Sub()):
            return "Patterns are not subtracted: write & ~."
        case ast.Compare():
            return "Comparisons have no meaning here."
    return (
        "This has no meaning in a pattern, which is made of names, calls with literals, &, |, ~ "
        "and parentheses."
    )
