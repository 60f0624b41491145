"""Secrets: asked for or read from standard input, never from the command line."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]


def read(
    *, from_stdin: bool, prompt: str, confirm: bool = False, what: str = "the password"
) -> str:
    """The password, or ``what`` is asked for; a usage error when there is none or nobody to ask."""
    if from_stdin:
        # One line: what a here-string or `echo` adds at the end is not part of it.
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        password = str(typer.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True))
    else:
        raise typer.BadParameter("nobody to ask; use --password-stdin")
    if not password:
        raise typer.BadParameter(f"{what} is empty")
    return password
