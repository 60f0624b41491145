"""The end of the process, which waits for nobody."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

LEASE_ENDED: Final = os.EX_TEMPFAIL
"""Exit status of a run whose lease has ended: the supervisor is to start another one."""


def leave(status: int) -> None:
    """End the process now; does not return.

    Python would wait for its threads, and one that hangs in libvirt or in storage holds it for as
    long as that does not answer. All that had to be finished in good order has been.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


@contextmanager
def at_once() -> Iterator[None]:
    """What ends the block by ``sys.exit`` with a status ends the process."""
    try:
        yield
    except SystemExit as end:
        if isinstance(end.code, str):
            raise  # a text for a person, which Python prints
        leave(int(end.code or 0))
