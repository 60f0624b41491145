"""Which state of the code a program runs: another one, and `up` restarts it."""

from __future__ import annotations

import hashlib
from pathlib import Path

STAMP = "ROOST_LAB_CODE"
"""In a program's environment, where nobody reads it but its supervisor."""


def stamp(repository: Path, service: str) -> str:
    """Changes with every change of a service's code or of what all of them share."""
    digest = hashlib.sha256()
    for directory in (repository / "libs/common/src", repository / "services" / service / "src"):
        for file in sorted(directory.rglob("*.py")):
            digest.update(str(file).encode() + file.read_bytes())
    return digest.hexdigest()[:16]
