"""What can go wrong in the lab, in one sentence and with the place to look."""

from __future__ import annotations

from pathlib import Path


class LabError(Exception):
    """Something in the lab could not be done; the text says what, and where to read more."""

    def __init__(self, message: str, log: Path | None = None) -> None:
        self.message = message
        self.log = log
        super().__init__(message if log is None else f"{message}\n  log: {log}")
