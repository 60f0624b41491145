"""The second path: asks the machines themselves, and the shared storage, about silent hosts.

A host is asked from the moment it is suspected, over and over, all hosts at once, a round in
little more than a second:

- TCP connections to the node's address. Accepted or refused, somebody's kernel answered, and as
  far as anyone can tell from here it is the node's: it lives. No route to the host, no answer in
  time: nothing. Where this machine itself cannot ask (no network, no name), nothing is concluded,
  neither life nor death.
- The node's file on the shared storage (`beat_files`): that it changes between the beginning and
  the end of a round means that the agent lives and only its way to the bus is gone.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import UUID

from roost_common.clock import Clock
from roost_ha_monitor.beat_files import BeatFiles
from roost_ha_monitor.detector import Evidence

ROUND_S: Final = 1.2
"""Longer than TCP's first retransmission (1 s, RFC 6298): one lost packet is no dead host."""
REFUSED: Final = (ConnectionRefusedError, ConnectionResetError)
NOBODY: Final = frozenset({errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.EHOSTDOWN})
"""What the kernel says where the other machine is not there."""


class Witness:
    """Asks about the hosts it is told to; answers stand in `evidence`."""

    def __init__(self, ports: Sequence[int], directory: Path | None, clock: Clock) -> None:
        self._ports = tuple(ports)
        self._files = BeatFiles(directory)
        self._clock = clock
        self._wanted: dict[str, str] = {}
        self._evidence: dict[str, Evidence] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    def want(self, addresses: Mapping[str, str]) -> None:
        """Ask about these hosts from now on, and no others; an address may be unknown: ``""``."""
        if addresses.keys() != self._wanted.keys():
            self._changed.set()
        self._wanted = dict(addresses)
        for node in self._evidence.keys() - addresses.keys():
            del self._evidence[node]

    def evidence(self, node: str, address: str) -> Evidence | None:
        """What is known of a host; None where there is no second path to it."""
        if not self._files.there and not (address and self._ports):
            return None
        return self._evidence.get(node, Evidence())

    async def accepts(self, address: str, timeout_s: float) -> str:
        """What takes connections at ``address`` now, in words; empty: nothing does."""
        if not address:
            return ""
        answers = await asyncio.gather(
            *(_connect(address, port, timeout_s) for port in self._ports)
        )
        open_ports = [port for port, (_, took) in zip(self._ports, answers, strict=True) if took]
        return f"port {open_ports[0]} answers" if open_ports else ""

    @property
    def there(self) -> bool:
        """Whether the site has a second path at all."""
        return bool(self._ports) or self._files.there

    async def shows(self, node: str, address: str, agent_id: UUID) -> bool:
        """Whether a host that lives, with this run of its agent, is seen to on this path."""
        if address:
            probes = [_connect(address, port, ROUND_S) for port in self._ports]
            if any(text for text, _ in await asyncio.gather(*probes)):
                return True
        mark = await self._files.mark(node, ROUND_S)
        return mark is not None and mark[0] == str(agent_id)

    async def run(self) -> None:
        """Ends only by cancellation."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                for node in self._wanted.keys() - self._asking.keys():
                    self._asking[node] = group.create_task(self._ask_on(node))
                await self._changed.wait()

    async def _ask_on(self, node: str) -> None:
        try:
            while node in self._wanted:
                await self._ask(node, self._wanted[node])
        finally:
            del self._asking[node]
            self._changed.set()

    async def _ask(self, node: str, address: str) -> None:
        """One round; life is told at once, death at its end."""
        began = self._clock.monotonic()
        pause = asyncio.create_task(asyncio.sleep(ROUND_S))
        probes = [_connect(address, port, ROUND_S) for port in self._ports if address]
        mark, answers = await asyncio.gather(
            self._files.mark(node, ROUND_S), asyncio.gather(*probes)
        )
        known = [(port, text) for port, (text, _) in zip(self._ports, answers, strict=False)]
        answered = next((f"port {port} {text}" for port, text in known if text), "")
        if answered and node in self._wanted:
            self._evidence[node] = Evidence(began, answered)
        await pause
        if mark is not None and await self._files.mark(node, ROUND_S) not in (None, mark):
            answered = "its file on the shared storage changes"
        asked = mark is not None or any(text is not None for _, text in known)
        if node in self._wanted and (asked or answered):
            self._evidence[node] = Evidence(began, answered)


async def _connect(address: str, port: int, timeout_s: float) -> tuple[str | None, bool]:
    """What a connection shows, in words, and whether it was taken.

    Empty: nobody is there. None: it could not be asked.
    """
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        return "", False
    except REFUSED:
        return "refuses: the machine lives", False
    except OSError as error:
        return ("" if error.errno in NOBODY else None), False
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(timeout_s):
            await writer.wait_closed()
    return "answers", True
