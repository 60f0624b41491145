"""Beat files: how nodes that share a directory see each other without the bus.

Every node writes ``<node>.json`` there every second, with whether it holds a grant, and reads the
others'. Their clocks are never compared: a node lives while its counter changes, seen by the
reader's clock.

The directory is on shared storage, which may hang. What blocks runs in threads of its own that
nothing waits for, not even the end of the process. On NFS a file that was replaced is seen at
once (close-to-open); a node that has just joined is seen when the client's cache of the directory
ends, which ``acdirmax`` limits.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID, uuid4

from roost_host_agent.lease import Peers

T = TypeVar("T")

WITNESS: Final = "witness"
LIVES_S: Final = 10.0
"""A node whose counter has not changed for longer does not count any more."""
DEADLINE_S: Final = 3.0
"""Storage that takes longer counts as not readable."""


@dataclass(frozen=True, slots=True)
class BeatFile:
    """What one node says of itself."""

    agent_id: str
    counter: int
    """Grows with every writing of this run of the agent."""
    sequence: int
    """Of its last beat on the bus."""
    granted: bool
    """Whether ha-monitor hears it."""
    written_at: str
    """By its own wall clock; for people."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The directory at one time."""

    witness: UUID
    """Identity of the directory."""
    others: Mapping[str, BeatFile]
    own: BeatFile | None
    """What was there of this node before."""


class Sightings:
    """Which of the others live: those whose file changed lately, by this process's clock."""

    def __init__(self) -> None:
        self._changed: dict[str, tuple[tuple[str, int], float]] = {}

    def look(self, reading: Reading, at: float) -> Peers:
        """A look that began at ``at``. A file that is seen for the first time has just changed:
        so long as it is not known that a node is dead, its grant counts."""
        known, self._changed = self._changed, {}
        granted = False
        for node, file in reading.others.items():
            mark = (file.agent_id, file.counter)
            before = known.get(node)
            changed_at = at if before is None or before[0] != mark else before[1]
            self._changed[node] = (mark, changed_at)
            granted = granted or (file.granted and at - changed_at <= LIVES_S)
        return Peers(at=at, granted=granted, witness=reading.witness)


class BeatDirectory:
    """The shared directory, for one node."""

    def __init__(self, path: Path, node: str, *, deadline_s: float = DEADLINE_S) -> None:
        self._path = path
        self._node = node
        self._deadline_s = deadline_s
        self._asked = False
        """Whether the storage has yet to answer."""

    async def read(self) -> Reading:
        """Raises OSError, ValueError, and TimeoutError while the storage hangs."""
        return await self._apart(self._read)

    async def exchange(self, own: BeatFile) -> Reading:
        """Write this node's file, then read; raises as `read` does."""

        def work() -> Reading:
            self._write(own)
            return self._read()

        return await self._apart(work)

    async def _apart(self, work: Callable[[], T]) -> T:
        """In a daemon thread, of which no more than one hangs at any time."""
        if self._asked:
            raise TimeoutError(f"{self._path} has not answered yet")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: Exception | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]  # T where there is no error

        def run() -> None:
            result, error = None, None
            try:
                result = work()
            except Exception as caught:  # raised again where it is awaited
                error = caught
            self._asked = False
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, result, error)

        self._asked = True
        threading.Thread(target=run, name="beat-files", daemon=True).start()
        async with asyncio.timeout(self._deadline_s):
            return await future

    # --- blocking -------------------------------------------------------------------------------

    def _write(self, own: BeatFile) -> None:
        fresh = self._path / f".{self._node}.{os.getpid()}"
        fresh.write_text(json.dumps(asdict(own)))
        fresh.replace(self._path / f"{self._node}.json")

    def _read(self) -> Reading:
        files = {
            file.stem: beat
            for file in self._path.iterdir()
            if file.suffix == ".json" and not file.name.startswith(".")
            if (beat := _parse(file)) is not None
        }
        return Reading(self._witness(), files, files.pop(self._node, None))

    def _witness(self) -> UUID:
        """The directory's identity; whoever is first makes it."""
        path = self._path / WITNESS
        try:
            return UUID(path.read_text().strip())
        except FileNotFoundError:
            pass
        fresh = self._path / f".{WITNESS}.{uuid4()}"
        fresh.write_text(f"{uuid4()}\n")
        try:
            # A link is made or not, and what it names is whole (link(2)).
            path.hardlink_to(fresh)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
        return UUID(path.read_text().strip())


def _parse(path: Path) -> BeatFile | None:
    """None for a file that has gone; raises ValueError for one that is none."""
    try:
        found = json.loads(_text(path))
        return BeatFile(
            agent_id=str(found["agent_id"]),
            counter=int(found["counter"]),
            sequence=int(found["sequence"]),
            granted=bool(found["granted"]),
            written_at=str(found["written_at"]),
        )
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no beat file: {error!r}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return path.read_text()  # it was replaced while it was opened (NFS)
