"""What cannot be taken back: a person says yes, or a program says ``--yes``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask: for programs.")]


def must_ask(*, yes: bool) -> bool:
    """Whether a person is to be asked; a usage error when there is none."""
    if not yes and not sys.stdin.isatty():
        raise typer.BadParameter("nobody to ask; use --yes")
    return not yes


def ask(warning: str, question: str) -> None:
    """Comes back only after a yes; anything else ends the command with exit code 1."""
    typer.echo(warning, err=True)
    typer.confirm(question, abort=True, err=True)
