"""Objects as tables for people."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from roost_client import JsonObject

NOTHING: Final = "-"
UNBOUND: Final = 10_000
"""Width of a table that is not on a terminal: nothing is cut off in a pipe."""


def plain(value: object) -> str:
    """Any JSON value on one line."""
    if value in (None, "", [], {}):
        return NOTHING
    match value:
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(plain(item) for item in value)
        case dict():
            return str(value.get("name") or ", ".join(f"{k}={plain(v)}" for k, v in value.items()))
    return str(value)


def size(value: object) -> str:
    """Bytes with a binary unit."""
    if not isinstance(value, (int, float)):
        return plain(value)
    amount = float(value)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def when(value: object) -> str:
    """A time in this machine's zone, to the second."""
    if not isinstance(value, str):
        return plain(value)
    try:
        return datetime.fromisoformat(value).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return value


@dataclass(frozen=True)
class Column:
    """A column: its title, where in the object the value is (``spec.vcpus``), how it is written."""

    title: str
    path: str
    write: Callable[[object], str] = plain

    def of(self, item: JsonObject) -> str:
        """The cell."""
        value: object = item
        for key in self.path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return self.write(value)


@dataclass(frozen=True)
class Part:
    """A list inside an object, written as a table of its own."""

    name: str
    columns: tuple[Column, ...]


def write_list(items: Sequence[JsonObject], columns: Sequence[Column]) -> None:
    """A line per object."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column.title.upper(), overflow="fold")
    for item in items:
        # As text: a name with brackets is no markup.
        made.add_row(*(Text(column.of(item)) for column in columns))
    _console().print(made)


def write_one(item: JsonObject, parts: Sequence[Part] = ()) -> None:
    """A line per field, those of inner objects by dotted names; then the parts that are there."""
    there = [part for part in parts if item.get(part.name)]
    names = {part.name for part in there}
    made = Table(box=None, pad_edge=False, show_header=False)
    made.add_column(style="bold")
    made.add_column(overflow="fold")
    for name, value in _flat({key: item[key] for key in item if key not in names}):
        made.add_row(Text(name), Text(plain(value)))
    _console().print(made)
    for part in there:
        _console().print(Text(f"\n{part.name}", style="bold"))
        write_list(item[part.name], part.columns)


def _flat(item: JsonObject, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in item.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _console() -> Console:
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else UNBOUND)
