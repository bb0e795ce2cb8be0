"""The command that shows attention patterns: explain."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskwright.cli.options import open_console

if TYPE_CHECKING:
    from maskwright.attention import Axis

DTYPES = ("float32", "float64", "bfloat16", "float16")


def explain(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="PATTERN",
            help="Such as `causal & window(256)`; in quotes, because of the signs in it.",
            show_default=False,
        ),
    ] = None,
    length: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Queries; 64 unless given.")
    ] = None,
    kv_length: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Keys, in cross-attention or with a cache."),
    ] = None,
    documents: Annotated[
        str | None,
        typer.Option(metavar="N,N,…", help="Packed documents of these lengths, on both axes."),
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(metavar="N,N,…", help="A batch: tokens of each sample; the rest is padding."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUES",
            help="What else is known of the tokens: `order=2,0,1`, in runs "
            "`speaker=0*8,1*8` or `prompt=true*4,false*12`; of one axis: `q.order=…`, "
            "`kv.order=…`. May be given several times.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Tokens of a block, to count work by.")
    ] = None,
    heads: Annotated[int | None, typer.Option(metavar="N", min=1, help="Of the tensors.")] = None,
    dim: Annotated[int, typer.Option(metavar="N", min=1, help="Size of a head.")] = 64,
    dtype: Annotated[str, typer.Option(help=f"One of {', '.join(DTYPES)}.")] = "float32",
    device: Annotated[str, typer.Option(help="`cpu` or `cuda`.")] = "cpu",
    backend: Annotated[str, typer.Option(help="One by name, instead of the cheapest.")] = "auto",
    panels: Annotated[
        int, typer.Option(metavar="N", min=1, help="Samples and heads to draw, at most.")
    ] = 4,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Also write the picture (.svg, .png), or all of it (.html, .txt). May be given "
            "several times.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--list", help="List the patterns there are, and stop.")
    ] = False,
) -> None:
    """Draw who may attend to whom, and say which kernel runs it, why, and how much work it is.

    A pattern is written as in Python: `&` both, `|` either, `~` not. The picture has queries
    downwards and keys across.

    A decoder with a sliding window and a sink: `maskwright explain "causal & (window(256) |
    global_tokens(0))" --length 4096`

    Packed documents: `maskwright explain "causal & documents" --documents 512,512,3072`

    A padded batch: `maskwright explain padding --lengths 40,64`

    Cross-attention: `maskwright explain "wait_k(3)" --length 24 --kv-length 32`

    As a file: `maskwright explain "bigbird(64)" --length 4096 --out bigbird.svg`
    """
    from maskwright.attention import explain as explain_pattern
    from maskwright.attention import parse
    from maskwright.errors import AxisError

    if everything:
        _print_list()
        return
    if source is None:
        raise typer.BadParameter("which? Such as 'causal & window(8)'; --list shows them.")
    q, kv = axes(length, kv_length, documents, lengths, column or ())
    try:
        found = explain_pattern(
            parse(source), q, kv, heads=heads, dim=dim, dtype=_dtype(dtype),
            device=_device(device), backend=backend, size=size, panels=panels,
        )  # fmt: skip
    except AxisError as error:
        if "no such column" not in str(error):
            raise
        raise AxisError(f"{error} Here: --documents, --lengths or --column NAME=VALUES.") from None
    _print(found)
    for path in out or ():
        found.save(path)
        open_console(stderr=True).print(f"Written: {path}", highlight=False, soft_wrap=True)


def axes(
    length: int | None = None,
    kv_length: int | None = None,
    documents: str | None = None,
    lengths: str | None = None,
    columns: list[str] | tuple[str, ...] = (),
) -> tuple[Axis, Axis]:
    """The axes that the options mean; one and the same where nothing tells them apart.

    Raises:
        ConfigError: an option is malformed, or contradicts another.
        AxisError: a column does not have the length of its axis.
    """
    import torch

    from maskwright.attention import Axis
    from maskwright.errors import ConfigError

    shared: dict[str, Any] = {}
    sides: dict[str, dict[str, Any]] = {"q": {}, "kv": {}}
    implied = None
    if documents is not None:
        sizes = _numbers("--documents", documents)
        implied = sum(sizes)
        segments = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        shared["segments"] = segments
    if lengths is not None:
        sizes = _numbers("--lengths", lengths)
        implied = max(sizes) if implied is None else implied
        whole = implied if length is None else length
        if kv_length is not None:
            raise ConfigError(
                "--lengths is about one axis, and --kv-length makes two. Give the padding of each "
                "as a column: --column kv.valid=true*40,false*24."
            )
        if max(sizes) > whole:
            raise ConfigError(f"--lengths {lengths}: the axis has {whole} tokens (--length).")
        shared["valid"] = torch.arange(whole) < torch.tensor(sizes)[:, None]
    for one in columns:
        name, values = _column(one)
        side, _, rest = name.rpartition(".")
        if side not in ("", "q", "kv"):
            raise ConfigError(f"--column {one}: a column is of `q.`, of `kv.`, or of both.")
        (sides[side] if side else shared)[rest] = values
    if implied is not None and length is not None and documents and length != implied:
        raise ConfigError(f"--documents {documents} make {implied} tokens, --length is {length}.")
    length = next(one for one in (length, implied, 64) if one is not None)
    q = Axis(length, **shared, **sides["q"])
    if kv_length is None and not any(sides.values()):
        return q, q
    return q, Axis(length if kv_length is None else kv_length, **shared, **sides["kv"])


def _numbers(option: str, text: str) -> list[int]:
    from maskwright.errors import ConfigError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigError(f"{option} {text}: it is whole numbers with commas, such as 512,300.")
    return [int(part) for part in parts]


def _column(text: str) -> tuple[str, list[int] | list[bool]]:
    from maskwright.errors import ConfigError

    name, _, listed = text.partition("=")
    values: list[Any] = []
    for part in listed.split(","):
        value, _, count = part.strip().partition("*")
        known = {"true": True, "false": False}.get(value.lower())
        digits = value.removeprefix("-")
        if (known is None and not digits.isdecimal()) or not (count or "1").isdecimal():
            raise ConfigError(
                f"--column {text}: {part.strip()!r} is no value. Write NAME=VALUES, such as "
                "order=2,0,1 or prompt=true*4,false*12."
            )
        values += [int(value) if known is None else known] * int(count or 1)
    if len({type(value) for value in values}) > 1:
        raise ConfigError(f"--column {text}: true and false do not mix with numbers.")
    return name.strip(), values


def _dtype(name: str) -> Any:
    import torch

    from maskwright.errors import ConfigError, unknown

    if name not in DTYPES:
        raise ConfigError(unknown("dtype", name, DTYPES))
    return getattr(torch, name)


def _device(name: str) -> Any:
    import torch

    from maskwright.errors import ConfigError

    try:
        return torch.device(name)
    except RuntimeError:
        raise ConfigError(f"--device {name}: torch knows no such device; cpu or cuda.") from None


def _print(found: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    from maskwright.attention.pictures.explanation import speaks_unicode
    from maskwright.attention.pictures.text import text

    console = open_console()
    if not speaks_unicode():
        print(found.text(console.width, unicode=False))
        return
    table = Table.grid(padding=(0, 2))
    margin = max(len(name) for name, _ in found.facts) + 4
    for name, fact in found.facts:
        # rich would part a number from its unit
        lines = "\n".join(textwrap.wrap(fact, max(console.width - margin, 20)))
        table.add_row(Text(name, "bold"), Text(lines, "dim" if name.startswith("not ") else ""))
    console.print(Text(found.source, "bold"))
    console.print()
    console.print(Text(text(found.picture, console.width)), no_wrap=True, overflow="ignore")
    console.print()
    console.print(table)


def _print_list() -> None:
    from rich.table import Table
    from rich.text import Text

    from maskwright.attention.pictures.meanings import meanings

    table = Table(header_style="bold", box=None, pad_edge=False)
    table.add_column("pattern", overflow="fold", ratio=2)
    table.add_column("what it allows", ratio=3)
    for one in meanings():
        table.add_row(Text.assemble((one.name, "bold"), one.settings), Text(one.text))
    open_console().print(table)
