"""What nodes tell each other through a directory."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from tests.polling import eventually

from roost_common.contracts.host import LeaseGranted
from roost_common.testing.clock import FakeClock
from roost_host_agent.beat_file import LIVES_S, BeatDirectory, BeatFile, Reading, Sightings
from roost_host_agent.lease import GRANT_FRESH_S, Lease
from roost_host_agent.node import Node
from roost_host_agent.peer_watch import WITNESS_FRESH_S, PeerWatch

WITNESS = UUID(int=7)


def beat(counter: int = 1, *, granted: bool = True, agent_id: str = "a") -> BeatFile:
    return BeatFile(agent_id, counter, counter * 10, granted, "2026-01-05T08:00:00+00:00")


def reading(**others: BeatFile) -> Reading:
    return Reading(WITNESS, others, None)


# --- who lives ------------------------------------------------------------------------------------


def test_a_node_lives_while_its_counter_changes() -> None:
    sightings = Sightings()
    assert sightings.look(reading(b=beat(1)), 0).granted
    assert sightings.look(reading(b=beat(1)), LIVES_S).granted
    assert not sightings.look(reading(b=beat(1)), LIVES_S + 0.1).granted
    assert sightings.look(reading(b=beat(2)), LIVES_S + 1).granted


def test_a_new_run_counts_from_one_again_and_lives() -> None:
    sightings = Sightings()
    sightings.look(reading(b=beat(1, agent_id="old")), 0)
    assert sightings.look(reading(b=beat(1, agent_id="new")), LIVES_S + 1).granted


def test_one_with_a_grant_is_enough() -> None:
    sightings = Sightings()
    assert not sightings.look(reading(b=beat(granted=False), c=beat(granted=False)), 0).granted
    assert sightings.look(reading(b=beat(2, granted=False), c=beat(2)), 1).granted
    assert not sightings.look(reading(), 2).granted
    assert sightings.look(reading(), 3).witness == WITNESS


# --- the directory --------------------------------------------------------------------------------


async def test_nodes_see_each_other_and_one_witness(tmp_path: Path) -> None:
    one, two = BeatDirectory(tmp_path, "node-a"), BeatDirectory(tmp_path, "node-b.example")
    first = await one.exchange(beat(1, granted=False))
    assert (dict(first.others), first.own) == ({}, beat(1, granted=False))
    second = await two.exchange(beat(5))
    assert (dict(second.others), second.own) == ({"node-a": beat(1, granted=False)}, beat(5))
    assert (await one.read()).others == {"node-b.example": beat(5)}
    assert first.witness == second.witness
    names = await asyncio.to_thread(os.listdir, tmp_path)
    assert sorted(names) == ["node-a.json", "node-b.example.json", "witness"]


async def test_all_who_make_the_witness_at_once_agree(tmp_path: Path) -> None:
    nodes = [BeatDirectory(tmp_path, f"node-{number}") for number in range(16)]
    readings = await asyncio.gather(*(node.read() for node in nodes))
    assert len({found.witness for found in readings}) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [("node-b.json", "{"), ("node-b.json", '{"counter": 1}'), ("witness", "none")],
)
async def test_what_cannot_be_understood_is_not_passed_over(
    tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError):
        await BeatDirectory(tmp_path, "node-a").read()


async def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        await BeatDirectory(tmp_path / "none", "node-a").read()


class Hanging(BeatDirectory):
    """Storage that hangs until it is released."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "node-a", deadline_s=0.05)
        self.answers = threading.Event()
        self.asked = 0

    def _read(self) -> Reading:
        self.asked += 1
        self.answers.wait(20)
        return super()._read()


async def test_storage_that_hangs_is_asked_by_one_thread_only(tmp_path: Path) -> None:
    directory = Hanging(tmp_path)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            await directory.read()
    assert directory.asked == 1
    directory.answers.set()

    async def read() -> Reading | None:
        try:
            return await directory.read()
        except TimeoutError:
            return None

    await eventually(read, "the storage answers again")


# --- one node's side ------------------------------------------------------------------------------


class Watching:
    """A node that watches; ``restart`` is a new run of its agent."""

    def __init__(self, directory: BeatDirectory) -> None:
        self.clock = FakeClock()
        self.directory = directory
        self.restart()

    def restart(self) -> None:
        self.node = Node("node-a", "", uuid4())
        self.lease = Lease(self.node.agent_id, 45)
        self.watch = PeerWatch(
            self.node,
            self.lease,
            self.directory,
            self.clock,
            boot_time=self.clock.monotonic,
        )

    def grant(self, sequence: int) -> None:
        now = self.clock.monotonic()
        self.lease.sent(sequence, now, armed=False, witness=None)
        self.lease.granted(
            LeaseGranted(node="node-a", agent_id=self.node.agent_id, sequence=sequence, armed=True),
            now,
        )

    async def written(self) -> BeatFile:
        await self.watch.step()
        own = (await self.directory.read()).own
        assert own is not None
        return own


async def test_a_node_says_whether_it_is_heard(tmp_path: Path) -> None:
    site = Watching(BeatDirectory(tmp_path, "node-a"))
    site.watch.sequence = 3
    first = await site.written()
    assert (first.granted, first.counter, first.sequence) == (False, 1, 3)
    site.grant(1)
    second = await site.written()
    assert (second.granted, second.counter) == (True, 2)
    site.clock.advance(GRANT_FRESH_S)
    assert not (await site.written()).granted


async def test_a_restart_of_the_agent_does_not_look_like_the_loss_of_the_bus(
    tmp_path: Path,
) -> None:
    site = Watching(BeatDirectory(tmp_path, "node-a"))
    site.grant(1)
    assert (await site.written()).granted
    site.restart()
    assert (await site.written()).granted
    site.clock.advance(GRANT_FRESH_S)
    assert not (await site.written()).granted
    # And a run that was not heard leaves nothing to the next.
    site.restart()
    assert not (await site.written()).granted


async def test_only_a_directory_that_works_is_claimed(tmp_path: Path) -> None:
    path = tmp_path / "ha"
    site = Watching(BeatDirectory(path, "node-a"))
    await site.watch.step()
    assert (site.watch.peers, site.watch.witness(0)) == (None, None)
    path.mkdir()
    await site.watch.step()
    assert site.watch.peers is not None
    assert site.watch.witness(WITNESS_FRESH_S - 0.1) == site.watch.peers.witness
    site.clock.advance(1)
    path.rename(tmp_path / "away")
    await site.watch.step()
    assert site.watch.peers is None
    assert site.watch.witness(WITNESS_FRESH_S - 0.1) is not None
    assert site.watch.witness(WITNESS_FRESH_S) is None
