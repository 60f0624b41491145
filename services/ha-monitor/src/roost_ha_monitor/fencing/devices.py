"""Hosts' fence devices: set up, shown, checked, and made ready for use."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from roost_common.clock import Clock
from roost_common.contracts.alert import Severity
from roost_common.errors import Conflict, Invalid, RoostError
from roost_common.outbox import Transaction, UnitOfWork
from roost_ha_monitor import alerting
from roost_ha_monitor.alerts import DEVICE_FAILED, Wanted
from roost_ha_monitor.ears import Ears
from roost_ha_monitor.fencing.fence_agents import Answer, Device, FenceAgents
from roost_ha_monitor.fencing.plan import Said
from roost_ha_monitor.model import FenceDevice
from roost_ha_monitor.node_tasks import NodeTasks
from roost_ha_monitor.repository import FenceDevices, Hosts, Incidents
from roost_ha_monitor.sealed import Sealer

CHECKED_AT_ONCE: Final = 4
"""Checks under way together: each is a process, and none is in a hurry."""


@dataclass(frozen=True)
class Wish:
    """A device as an administrator describes it."""

    agent: str
    options: Mapping[str, str]


class Devices:
    """Use cases around fence devices; none of them switches a host."""

    def __init__(
        self,
        unit_of_work: UnitOfWork,
        agents: FenceAgents,
        sealer: Sealer,
        ears: Ears,
        clock: Clock,
    ) -> None:
        self._unit = unit_of_work
        self._agents = agents
        self._sealer = sealer
        self._ears = ears
        self._clock = clock

    def ready(self, row: FenceDevice) -> Device:
        """A device with its options opened; one whose options cannot be opened says why."""
        try:
            options = json.loads(self._sealer.unseal(row.options))
        except RoostError as error:
            return Device(row.node, row.position, row.agent, {}, problem=error.detail)
        return Device(row.node, row.position, row.agent, options)

    async def of(self, node: str) -> list[Device]:
        """A host's, in order."""
        async with self._unit() as transaction:
            rows = await FenceDevices(transaction.session).of(node)
        return [self.ready(row) for row in rows]

    async def put(self, node: str, wishes: Sequence[Wish], by: str) -> None:
        """These are the host's devices from now on; each of them is asked first.

        Raises `NotFound` for a host that is not watched, `Invalid` for an agent or an option that
        does not exist, `Conflict` for a device that does not answer (``fencing.device-failed``),
        for one that is another host's (``fencing.wrong-host``), and on a site without a key for
        secrets (``secrets.no-key``).
        """
        sealed = [self._seal(wish) for wish in wishes]
        async with self._unit() as transaction:
            await Hosts(transaction.session).get(node)
        for wish in wishes:
            await self._validate(wish)
        devices = [
            Device(node, position, wish.agent, wish.options) for position, wish in enumerate(wishes)
        ]
        for device, answer in zip(devices, await self._statuses(devices), strict=True):
            if (problem := self._problem(device, answer)) is not None:
                raise problem
        now = self._clock.now()
        async with self._unit() as transaction:
            await Hosts(transaction.session).lock(node)
            await FenceDevices(transaction.session).replace(
                node,
                [
                    FenceDevice(
                        node=node,
                        position=position,
                        agent=wish.agent,
                        options=sealed[position],
                        changed_at=now,
                        changed_by=by,
                        checked_at=now,
                    )
                    for position, wish in enumerate(wishes)
                ],
            )
            await alerting.clear(transaction, (DEVICE_FAILED, node), now)
            incident = await Incidents(transaction.session).unfenced(node)
            if incident is not None:
                # Somebody mended it: the next round need not wait.
                incident.retry_at = None

    async def remove(self, node: str) -> None:
        """The host has none; saying it again changes nothing."""
        async with self._unit() as transaction:
            # A check writes before this or after it, never in between. `lock` would refuse a host
            # that is watched no more.
            await Hosts(transaction.session).lock_all([node])
            await FenceDevices(transaction.session).replace(node, [])
            await alerting.clear(transaction, (DEVICE_FAILED, node), self._clock.now())

    async def test(self, node: str) -> list[tuple[Device, Answer, str]]:
        """Ask each of a host's devices now: what it is, what it says, what is wrong with that."""
        async with self._unit() as transaction:
            await Hosts(transaction.session).get(node)
            rows = await FenceDevices(transaction.session).of(node)
        return await self._check(rows)

    async def check(self, tasks: NodeTasks) -> None:
        """Ask all devices of hosts in service for which nothing is being done; alerts follow."""
        async with self._unit() as transaction:
            rows = await FenceDevices(transaction.session).everyone()
            aside = await Hosts(transaction.session).maintained()
        by_node: dict[str, list[FenceDevice]] = {}
        for row in rows:
            if row.node not in aside and not tasks.busy(row.node):
                by_node.setdefault(row.node, []).append(row)
        limit = asyncio.Semaphore(CHECKED_AT_ONCE)

        async def one(devices: Sequence[FenceDevice]) -> None:
            async with limit:
                await self._check(devices)

        await asyncio.gather(*(one(devices) for devices in by_node.values()))

    async def _check(self, rows: Sequence[FenceDevice]) -> list[tuple[Device, Answer, str]]:
        devices = [self.ready(row) for row in rows]
        answers = await self._statuses(devices)
        found = []
        for device, answer in zip(devices, answers, strict=True):
            problem = self._problem(device, answer)
            found.append((device, answer, problem.detail if problem else ""))
        if rows:
            await self._note(rows, [text for *_, text in found])
        return found

    async def _note(self, asked: Sequence[FenceDevice], problems: Sequence[str]) -> None:
        """Write down what a check of a host's devices found, and its alert."""
        node, now = asked[0].node, self._clock.now()
        async with self._unit() as transaction:
            await Hosts(transaction.session).lock_all([node])
            rows = await FenceDevices(transaction.session).of(node)
            # One that hangs answers late. Whoever changed the devices meanwhile has seen to the
            # alert; without devices no later check would end it.
            if _which(rows) != _which(asked):
                return
            for row, problem in zip(rows, problems, strict=True):
                row.checked_at, row.problem = now, problem
            await self._alert(transaction, node, problems, now)

    async def _alert(
        self, transaction: Transaction, node: str, problems: Sequence[str], now: datetime
    ) -> None:
        bad = [text for text in problems if text]
        wanted = None
        if bad:
            which = f"{len(bad)} of {len(problems)} fence devices of host {node} would not work"
            wanted = Wanted(DEVICE_FAILED, node, Severity.ERROR, f"{which}: {bad[0]}")
        await alerting.set_one(transaction, (DEVICE_FAILED, node), wanted, now)

    async def _statuses(self, devices: Sequence[Device]) -> list[Answer]:
        return await asyncio.gather(*(self._agents.status(device) for device in devices))

    def _problem(self, device: Device, answer: Answer) -> Conflict | None:
        if answer.said not in (Said.ON, Said.OFF):
            return Conflict(
                "fencing.device-failed",
                "{agent} does not work for {node}: {why}.",
                agent=device.agent,
                node=device.node,
                why=answer.detail,
            )
        if answer.said is Said.OFF and self._ears.beats(device.node):
            return Conflict(
                "fencing.wrong-host",
                "{agent} says that {node} is off, but it beats: is it another host's?",
                agent=device.agent,
                node=device.node,
            )
        return None

    async def _validate(self, wish: Wish) -> None:
        metadata = await self._agents.metadata(wish.agent)
        problem = metadata.problem(wish.options)
        if problem is not None:
            raise Invalid(
                "fencing.options-invalid", "{agent}: {why}", agent=wish.agent, why=problem
            )

    def _seal(self, wish: Wish) -> bytes:
        return self._sealer.seal(json.dumps(dict(wish.options)).encode())


def _which(rows: Sequence[FenceDevice]) -> list[tuple[int, datetime]]:
    """What tells a host's devices from those that were there before."""
    return [(row.position, row.changed_at) for row in rows]
