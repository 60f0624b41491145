"""The nodes' files on the shared storage, read from here: ``<directory>/<node>.json``.

Each agent writes its own every second, with a counter that grows within one run of it. The storage
may hang; what reads runs in threads that nothing waits for, not even the end of the process, and
of which a node has no more than one.
"""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

Mark = tuple[str, int]
"""The run of the agent and its counter; another one than before: the agent lives."""
NO_FILE: Final[Mark] = ("", 0)
"""The storage answers, and the node has never written there."""


class BeatFiles:
    """The directory; without one nothing is ever read."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._hanging: dict[str, threading.Thread] = {}

    @property
    def there(self) -> bool:
        """Whether the site has such a directory."""
        return self._directory is not None

    async def mark(self, node: str, timeout_s: float) -> Mark | None:
        """What stands in the node's file; None where it cannot be read in time."""
        before = self._hanging.get(node)
        if self._directory is None or (before is not None and before.is_alive()):
            return None
        path = self._directory / f"{node}.json"
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Mark | None] = loop.create_future()

        def settle(mark: Mark | None) -> None:
            if not future.done():
                future.set_result(mark)

        def work() -> None:
            mark = _read(path)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, mark)

        thread = threading.Thread(target=work, name=f"beat-file-{node}", daemon=True)
        self._hanging[node] = thread
        thread.start()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                return await future
        return None


def _read(path: Path) -> Mark | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return str(found["agent_id"]), int(found["counter"])
    except FileNotFoundError:
        return NO_FILE
    except (OSError, ValueError, KeyError, TypeError):
        return None
