"""The lab's state as a whole: who may change it now, and its end."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from roost_lab.errors import LabError
from roost_lab.paths import Paths
from roost_lab.progress import say


def purge(paths: Paths) -> None:
    """Forget all data of a lab that is down; the cache stays."""
    for path in paths.state.iterdir() if paths.state.exists() else ():
        if path != paths.cache:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    say("the lab's data is gone; .roost/cache is kept")


@contextmanager
def exclusive(paths: Paths) -> Iterator[None]:
    """Only one ``up`` or ``down`` at a time."""
    paths.state.mkdir(exist_ok=True)
    with Path(paths.state, "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LabError("another up or down is at work") from error
        yield
