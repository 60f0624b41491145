"""What the lab says while it works."""

from __future__ import annotations

import time

_STARTED = time.monotonic()


def say(text: str) -> None:
    """One line of progress."""
    print(f"[{time.monotonic() - _STARTED:6.1f} s] {text}", flush=True)
