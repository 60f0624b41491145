"""Runs ClusterLabs fence agents; the only module that knows their protocol.

Options go to the agent's standard input, one ``name=value`` a line, and the exit code is the
answer (ClusterLabs/fence-agents, doc/FenceAgentAPI.md): 0 done, for *status* 0 on and 2 off.
The library that most agents are made with leaves with 2 for bad arguments as well, and so do
shells and Python, so off is believed only where the agent says the word, too
(``Status: OFF``).

Nothing of the options is logged. What an agent complains of is shown to administrators, with the
values of secret options taken out.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from roost_common import log
from roost_common.errors import Invalid
from roost_ha_monitor.fencing.metadata import Metadata, is_secret, parse
from roost_ha_monitor.fencing.plan import Said

logger = log.get_logger(__name__)

AGENT_NAME: Final = re.compile(r"^fence_[a-z0-9_]{1,57}$")
METADATA_TIMEOUT_S: Final = 10.0
"""It asks no device; starting Python with all that an agent imports takes a second or two."""
REAP_S: Final = 1.0
OUTPUT_MAX: Final = 256 * 1024
"""Metadata of the largest agents is about 50 KiB."""
ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/"}
_MEANINGS: Final = {
    1: "it failed",
    2: "its options are not right",
    3: "it could not log in",
    4: "its connection was lost",
    5: "it got no answer in time",
    6: "the host did not switch on in time",
    7: "the host did not switch off in time",
    8: "it cannot tell the state",
    10: "it was given no password",
    11: "its user may not do that",
}
"""Exit codes of the agents' common library (lib/fencing.py)."""
_OFF: Final = re.compile(r"\boff\b", re.IGNORECASE)


@dataclass(frozen=True)
class Device:
    """One of a host's fence devices, ready to be used."""

    node: str
    position: int
    agent: str
    options: Mapping[str, str]
    problem: str = ""
    """Why it cannot be used: its options could not be opened."""

    def __repr__(self) -> str:
        return f"Device({self.node!r}, {self.position}, {self.agent!r})"


@dataclass(frozen=True)
class Answer:
    """What an agent said, and in words why."""

    said: Said
    detail: str = ""


@dataclass(frozen=True)
class _Ended:
    code: int | None
    """None: it had to be killed."""
    output: str = ""
    complaint: str = ""


class FenceAgents:
    """The agents in one directory."""

    def __init__(self, directory: Path, *, switch_timeout_s: float, status_timeout_s: float):
        self._directory = directory
        self._switch_timeout_s = switch_timeout_s
        self._status_timeout_s = status_timeout_s

    async def metadata(self, agent: str) -> Metadata:
        """Raises `Invalid` (``fencing.agent-unknown``) for what is no fence agent here."""
        unknown = Invalid(
            "fencing.agent-unknown", "There is no fence agent {agent} here.", agent=agent[:80]
        )
        if not AGENT_NAME.match(agent) or not (self._directory / agent).is_file():
            raise unknown
        ended = await self._run(agent, {"action": "metadata"}, METADATA_TIMEOUT_S)
        try:
            return parse(ended.output)
        except ValueError:
            raise unknown from None

    async def off(self, device: Device) -> Answer:
        """Cut the host's power; doing it again changes nothing."""
        return await self._switch(device, "off")

    async def on(self, device: Device) -> Answer:
        """Give the host power; doing it again changes nothing."""
        return await self._switch(device, "on")

    async def status(self, device: Device) -> Answer:
        """Whether the host has power."""
        ended = await self._ask(device, "status", self._status_timeout_s)
        says_off = _OFF.search(ended.output) is not None
        if ended.code == 0 and not says_off:
            return Answer(Said.ON)
        if ended.code == 2 and says_off:
            return Answer(Said.OFF)
        if ended.code in (0, 2) and (says_off or not ended.complaint):
            return Answer(Said.FAILED, "its exit code and its words do not agree")
        return _failure(ended, self._status_timeout_s)

    async def _switch(self, device: Device, action: str) -> Answer:
        ended = await self._ask(device, action, self._switch_timeout_s)
        return Answer(Said.DONE) if ended.code == 0 else _failure(ended, self._switch_timeout_s)

    async def _ask(self, device: Device, action: str, timeout_s: float) -> _Ended:
        if device.problem:
            return _Ended(1, complaint=device.problem)
        # As the cluster's own daemon does: agents that fence by the node's name need it.
        lines = {**device.options, "nodename": device.node, "action": action}
        ended = await self._run(device.agent, lines, timeout_s)
        logger.info(
            "fencing.asked",
            node=device.node,
            position=device.position,
            agent=device.agent,
            action=action,
            code=ended.code,
        )
        secrets = [value for name, value in device.options.items() if is_secret(name) and value]
        complaint = ended.complaint
        for secret in sorted(secrets, key=len, reverse=True):
            complaint = complaint.replace(secret, "***")
        return _Ended(ended.code, ended.output, complaint)

    async def _run(self, agent: str, options: Mapping[str, str], timeout_s: float) -> _Ended:
        """One run of an agent; its whole process group is gone when it takes too long."""
        if not AGENT_NAME.match(agent):
            return _Ended(1, complaint="no fence agent")
        given = "".join(f"{name}={value}\n" for name, value in options.items())
        try:
            process = await _begin(self._directory / agent)
        except OSError as error:
            return _Ended(1, complaint=f"it cannot be run: {error.strerror}")
        try:
            async with asyncio.timeout(timeout_s):
                output, complaint = await _talk(process, given.encode())
                code = await process.wait()
        except TimeoutError:
            return _Ended(None)
        finally:
            await _end(process)
        return _Ended(code, output, complaint.strip().rpartition("\n")[2][:200])


async def _begin(program: Path) -> Process:
    """Start it, in a group of its own; started or not, it goes with whoever waits for it."""
    starting = asyncio.create_task(
        asyncio.create_subprocess_exec(
            program,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            cwd="/",
            env=ENVIRONMENT,
            start_new_session=True,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # Cancelled itself, asyncio kills the program alone and waits for what that has started.
        with suppress(OSError):
            await _end(await starting)
        raise


async def _talk(process: Process, given: bytes) -> tuple[str, str]:
    assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018 - all are pipes
    with suppress(ConnectionError):  # it need not read them
        process.stdin.write(given)
        await process.stdin.drain()
    process.stdin.close()
    output, complaint = await asyncio.gather(_read(process.stdout), _read(process.stderr))
    return output.decode(errors="replace"), complaint.decode(errors="replace")


async def _read(stream: asyncio.StreamReader) -> bytes:
    """All of it; what is too much is read and dropped, so that the agent does not wait."""
    kept = b""
    while part := await stream.read(65536):
        kept = (kept + part)[:OUTPUT_MAX]
    return kept


async def _end(process: Process) -> None:
    """Kill what is left of an agent that was not waited for."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # One that hangs in the kernel cannot be reaped; it is left behind like its device.
    with suppress(TimeoutError):
        async with asyncio.timeout(REAP_S):
            await process.wait()


def _failure(ended: _Ended, timeout_s: float) -> Answer:
    if ended.code is None:
        return Answer(Said.TIMED_OUT, f"it did not end within {timeout_s:g} s")
    meaning = _MEANINGS.get(ended.code, f"it ended with {ended.code}")
    return Answer(Said.FAILED, f"{meaning}: {ended.complaint}" if ended.complaint else meaning)
