"""JSON that a command is given in a file; secrets may stand in it."""

from __future__ import annotations

import json

import typer


def read(file: typer.FileText) -> object:
    """What the file holds; a usage error, which repeats nothing of it, when that is no JSON."""
    try:
        content: object = json.load(file)
    except ValueError as error:
        raise typer.BadParameter(f"{file.name} holds no JSON: {error}") from None
    return content
