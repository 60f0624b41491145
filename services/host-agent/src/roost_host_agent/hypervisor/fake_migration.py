"""Live migration between hypervisors in memory: all of one process reach each other."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol
from uuid import UUID
from weakref import WeakValueDictionary

from roost_common.contracts.migration import MigrateDesktop
from roost_common.errors import RoostError
from roost_host_agent.hypervisor.driver import not_running, outage
from roost_host_agent.hypervisor.migration import (
    cancelled,
    failed,
    migrating,
    to_itself,
    unreachable,
)

STEPS: Final = 10
"""Parts of a guest's memory that are sent one after the other."""
_POLL_S: Final = 0.005


class FakeNode(Protocol):
    """What a migration needs of either side."""

    away: bool

    @property
    def step_s(self) -> float:
        """How long one part takes."""
        ...

    @property
    def fails_midway(self) -> bool:
        """Whether half of the guest is all that it sends."""
        ...

    def runs(self, desktop_id: UUID, boot_id: UUID) -> bool:
        """Whether this run of the guest is here."""
        ...

    def make_room(self, desktop_id: UUID) -> bool:
        """Have the domain, without a guest that runs; False when there is one already."""
        ...

    def give_room_back(self, desktop_id: UUID) -> None:
        """Nothing comes any more."""
        ...

    def begin_leaving(self, desktop_id: UUID, migration_id: UUID) -> None:
        """Mark it."""
        ...

    def end_leaving(self, desktop_id: UUID) -> None:
        """It stays."""
        ...

    def hand_over(self, desktop_id: UUID, generation: int, target: FakeNode) -> None:
        """The guest stops here and runs there: one step, nothing comes between."""
        ...


NETWORK: Final[MutableMapping[str, FakeNode]] = WeakValueDictionary()
"""Every fake of this process by its node's name, where it has one, and by its address."""


@dataclass(slots=True)
class _Job:
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    percent: float = 0.0


class FakeMigrations:
    """`Migrations` of one fake."""

    def __init__(self, node: FakeNode) -> None:
        self._node = node
        self._jobs: dict[UUID, _Job] = {}
        self._tasks: set[asyncio.Task[RoostError | None]] = set()

    async def migrate(self, command: MigrateDesktop) -> None:
        """As the Protocol says; the guest goes on moving when the call is cancelled."""
        if self._node.away:
            raise outage()
        if not self._node.runs(command.desktop_id, command.boot_id):
            raise not_running()
        if command.desktop_id in self._jobs:
            raise migrating()
        target = NETWORK.get(command.target_node) or NETWORK.get(command.target_address)
        if target is self._node:
            raise to_itself()
        if target is None or target.away:
            raise unreachable(command.target_address, "nobody is there")
        if not target.make_room(command.desktop_id):
            raise failed("The domain is there already.")
        job = self._jobs[command.desktop_id] = _Job()
        self._node.begin_leaving(command.desktop_id, command.migration_id)
        task = asyncio.create_task(self._move(job, command, target))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        while not (await asyncio.wait({task}, timeout=_POLL_S))[0]:
            if self._node.away:
                raise outage()
        if (problem := task.result()) is not None:
            raise problem

    def percent(self, desktop_id: UUID) -> float | None:
        """How much has been sent; None when it is not leaving."""
        job = self._jobs.get(desktop_id)
        return None if job is None else job.percent

    def cancel(self, desktop_id: UUID) -> None:
        """Have the guest stay."""
        if (job := self._jobs.get(desktop_id)) is not None:
            job.cancelled.set()

    async def _move(
        self, job: _Job, command: MigrateDesktop, target: FakeNode
    ) -> RoostError | None:
        try:
            for step in range(1, STEPS + 1):
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._node.step_s):
                        await job.cancelled.wait()
                if (problem := self._trouble(job, command, target)) is not None:
                    target.give_room_back(command.desktop_id)
                    self._node.end_leaving(command.desktop_id)
                    return problem
                job.percent = 100.0 * step / STEPS
            self._node.hand_over(command.desktop_id, command.generation, target)
        finally:
            del self._jobs[command.desktop_id]
        return None

    def _trouble(self, job: _Job, command: MigrateDesktop, target: FakeNode) -> RoostError | None:
        if job.cancelled.is_set():
            return cancelled()
        if not self._node.runs(command.desktop_id, command.boot_id):
            return not_running()
        if target.away:
            return unreachable(command.target_address, "it is gone")
        if self._node.fails_midway and job.percent >= 50:
            return failed("The stream of memory broke.")
        return None
