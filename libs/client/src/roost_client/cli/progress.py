"""What is going on, on standard error: a line that moves on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType

import typer
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bars
from rich.status import Status
from rich.text import Text


class Progress:
    """Says each new thing once."""

    def __init__(self) -> None:
        self._last = ""
        console = Console(file=sys.stderr)
        self._status = Status("", console=console) if sys.stderr.isatty() else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def say(self, text: str) -> None:
        """The present state of things."""
        if text == self._last:
            return
        self._last = text
        if self._status is None:
            typer.echo(f"{text} …", err=True)
        else:
            self._status.update(Text(text))
            self._status.start()


class PercentBar:
    """Long work with a percentage."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._last = -1
        self._bars: Bars | None = None
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
            self._bars = Bars(*columns, console=Console(file=sys.stderr))
            self._task = self._bars.add_task(title, total=100)

    def __enter__(self) -> PercentBar:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def at(self, percent: object) -> None:
        """How far it is; anything but a number is no news."""
        if not isinstance(percent, (int, float)) or int(percent) == self._last:
            return
        self._last = int(percent)
        if self._bars is None:
            typer.echo(f"{self._title}: {self._last} %", err=True)
        else:
            self._bars.update(self._task, completed=float(percent))
