"""The second path, asked for real on loopback."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest
from tests.polling import eventually

from roost_common.clock import SystemClock
from roost_ha_monitor.detector import Evidence
from roost_ha_monitor.witness import Witness

pytestmark = pytest.mark.long

DEADLINE_S = 30.0


@asynccontextmanager
async def asking(witness: Witness) -> AsyncIterator[Witness]:
    task = asyncio.create_task(witness.run())
    yield witness
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def told(witness: Witness, node: str, address: str) -> Evidence:
    """Evidence of a round that begins from now on."""
    now = SystemClock().monotonic()
    witness.want({node: address})

    def newest() -> Evidence | None:
        evidence = witness.evidence(node, address)
        assert evidence is not None
        return evidence if evidence.asked_at >= now else None

    return await eventually(newest, "a round is over", DEADLINE_S)


class Rounds(SystemClock):
    """A clock that counts the rounds of a witness: each asks it once, when it begins."""

    def __init__(self) -> None:
        self.begun = 0

    def monotonic(self) -> float:
        self.begun += 1
        return super().monotonic()

    async def over(self, rounds: int) -> None:
        """Returns when so many have ended."""
        await eventually(lambda: self.begun > rounds, f"{rounds} rounds are over", DEADLINE_S)


@pytest.fixture
def listening() -> Iterator[int]:
    """A port that takes connections."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.fixture
def closed() -> Iterator[int]:
    """A port of a living machine on which nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@contextmanager
def dropping() -> Iterator[int]:
    """A port with a full backlog: the kernel drops what comes further, as a firewall does."""
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        for client in (first, second):
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(("127.0.0.1", port))
        yield port


async def test_a_machine_that_takes_a_connection_lives(listening: int, closed: int) -> None:
    async with asking(Witness([closed, listening], None, SystemClock())) as witness:
        assert "port" in (await told(witness, "kvm1", "127.0.0.1")).answered
        assert await witness.accepts("127.0.0.1", 5.0) == f"port {listening} answers"


async def test_a_machine_that_refuses_lives_but_takes_nothing(closed: int) -> None:
    async with asking(Witness([closed], None, SystemClock())) as witness:
        answered = (await told(witness, "kvm1", "127.0.0.1")).answered
        assert answered == f"port {closed} refuses: the machine lives"
        assert await witness.accepts("127.0.0.1", 5.0) == ""


async def test_a_machine_that_is_silent_is_so_after_one_round() -> None:
    with dropping() as port:
        async with asking(Witness([port], None, SystemClock())) as witness:
            before = SystemClock().monotonic()
            evidence = await told(witness, "kvm1", "127.0.0.1")
            assert evidence.answered == ""
            assert evidence.asked_at >= before


async def test_a_path_that_does_not_show_a_living_host_is_found_out(
    listening: int, closed: int, tmp_path: Path
) -> None:
    agent = uuid4()
    file = tmp_path / "kvm1.json"
    with dropping() as port:
        for ports, directory, shown in (
            ([port, listening], None, True),
            ([port, closed], None, True),
            ([port], None, False),
            ([port], tmp_path, False),
        ):
            witness = Witness(ports, directory, SystemClock())
            assert await witness.shows("kvm1", "127.0.0.1", agent) is shown
        witness = Witness([port], tmp_path, SystemClock())
        file.write_text(json.dumps({"agent_id": str(uuid4()), "counter": 7}))
        assert not await witness.shows("kvm1", "127.0.0.1", agent), "an earlier run wrote that"
        file.write_text(json.dumps({"agent_id": str(agent), "counter": 1}))
        assert await witness.shows("kvm1", "127.0.0.1", agent)


async def test_what_cannot_be_asked_says_nothing() -> None:
    clock = Rounds()
    async with asking(Witness([22], None, clock)) as witness:
        witness.want({"kvm1": "no such name"})
        await clock.over(2)
        assert witness.evidence("kvm1", "no such name") == Evidence()


async def test_without_ports_or_address_there_is_no_second_path() -> None:
    assert Witness([22], None, SystemClock()).evidence("kvm1", "") is None
    assert Witness([], None, SystemClock()).evidence("kvm1", "192.0.2.1") is None


async def test_a_host_that_is_not_asked_about_any_more_is_forgotten(closed: int) -> None:
    async with asking(Witness([closed], None, SystemClock())) as witness:
        await told(witness, "kvm1", "127.0.0.1")
        witness.want({})
        assert witness.evidence("kvm1", "127.0.0.1") == Evidence()
        assert "refuses" in (await told(witness, "kvm1", "127.0.0.1")).answered


class Writer:
    """Writes a node's file as its agent does."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "kvm1.json"
        self.counter = 0

    def write(self) -> None:
        self.counter += 1
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps({"agent_id": "a", "counter": self.counter}))
        fresh.replace(self._file)

    async def live(self) -> None:
        while True:
            self.write()
            await asyncio.sleep(0.3)


async def test_a_file_that_changes_is_life_and_one_that_does_not_is_none(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    task = asyncio.create_task(writer.live())
    async with asking(Witness([], tmp_path, SystemClock())) as witness:
        answered = (await told(witness, "kvm1", "")).answered
        assert answered == "its file on the shared storage changes"
        task.cancel()
        assert (await told(witness, "kvm1", "")).answered == ""


async def test_a_node_that_never_wrote_there_is_silent_there(tmp_path: Path) -> None:
    async with asking(Witness([], tmp_path, SystemClock())) as witness:
        assert (await told(witness, "kvm1", "")).answered == ""


async def test_a_file_that_is_none_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "kvm1.json").write_text("[]")
    clock = Rounds()
    async with asking(Witness([], tmp_path, clock)) as witness:
        witness.want({"kvm1": ""})
        await clock.over(2)
        assert witness.evidence("kvm1", "") == Evidence()


async def test_many_hosts_are_asked_at_once(closed: int) -> None:
    async with asking(Witness([closed], None, SystemClock())) as witness:
        witness.want({f"kvm{n}": "127.0.0.1" for n in range(50)})
        await eventually(
            lambda: all(witness.evidence(f"kvm{n}", "127.0.0.1") != Evidence() for n in range(50)),
            "every host was asked",
            DEADLINE_S,
        )
