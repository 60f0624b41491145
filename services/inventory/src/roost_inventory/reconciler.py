"""The loop that makes things right: takes the desktops that are due and carries their plans out.

Several copies run it at once; each takes desktops that no other has in hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

from roost_common import log
from roost_common.contracts.base import Message, Problem
from roost_common.outbox import Transaction, UnitOfWork
from roost_inventory import metrics
from roost_inventory.advance import advance, tell
from roost_inventory.changes import emit, published
from roost_inventory.model import Desktop
from roost_inventory.placement import choose_all
from roost_inventory.repository import Desktops, Hosts, Run
from roost_inventory.settings import Settings

BATCH: Final = 100
"""Desktops in one transaction: one round of locks on the hosts for all that are to be placed."""
WAKE_PER_FREED: Final = 4
"""How many that wait for room are tried again for each desktop that left a host."""


class Reconciler:
    """One pass of the loop; `roost_common.loops.Loop` calls it."""

    def __init__(self, unit_of_work: UnitOfWork, settings: Settings, *, batch: int = BATCH) -> None:
        self._unit = unit_of_work
        self._batch = batch
        self._overcommit = settings.overcommit
        self._policy = settings.placement_policy

    async def step(self) -> bool:
        """Look at up to a batch of desktops; True when there may be more."""
        now = self._unit.clock.now()
        async with self._unit() as transaction:
            desktops = Desktops(transaction.session)
            due = await desktops.due(now, self._batch)
            if not due:
                return False
            runs = await self._note_reachability(transaction, due)
            carriers = sum(desktop.host is not None for desktop in due)
            moving = sum(desktop.migrating_to is not None for desktop in due)
            with published(transaction, *due):
                await self._advance_all(transaction, due, runs, now)
            freed = carriers - sum(desktop.host is not None for desktop in due)
            # Each that is not being moved any more frees one of its two hosts.
            freed += moving - sum(desktop.migrating_to is not None for desktop in due)
            if freed > 0:
                await transaction.session.flush()
                await desktops.wake_waiting(freed * WAKE_PER_FREED, now)
        metrics.RECONCILED.inc(len(due))
        return len(due) == self._batch or freed > 0

    @staticmethod
    async def _note_reachability(
        transaction: Transaction, due: Sequence[Desktop]
    ) -> dict[str, Run]:
        names = {desktop.host for desktop in due if desktop.host is not None}
        runs = await Hosts(transaction.session).runs(names) if names else {}
        for desktop in due:
            run = None if desktop.host is None else runs.get(desktop.host)
            desktop.reachable = run is None or run.alive
        return runs

    async def _advance_all(
        self,
        transaction: Transaction,
        due: Sequence[Desktop],
        runs: Mapping[str, Run],
        now: datetime,
    ) -> None:
        homeless = [
            desktop
            for desktop in due
            if advance(
                desktop, _agent(runs, desktop.host), now, partial(_emit_for, transaction, desktop)
            )
        ]
        if not homeless:
            return
        homeless.sort(key=lambda one: (not one.restarting, -one.priority, one.created_at))
        candidates = await Hosts(transaction.session).locked_candidates()
        # Those that were released in this very pass have not been written yet, so their room is
        # still counted as used: the next pass has it.
        demands = [desktop.demand() for desktop in homeless]
        answers = choose_all(candidates, demands, overcommit=self._overcommit, policy=self._policy)
        runs = await Hosts(transaction.session).runs()
        for desktop, answer in zip(homeless, answers, strict=True):
            if isinstance(answer, Problem):
                metrics.PLACEMENTS.labels(answer.code).inc()
                desktop.refuse_place(answer, now)
            else:
                metrics.PLACEMENTS.labels("placed").inc()
                desktop.assign(answer, _agent(runs, answer), now)
                tell(desktop, partial(_emit_for, transaction, desktop))
            agent = _agent(runs, desktop.host)
            advance(desktop, agent, now, partial(_emit_for, transaction, desktop))


def _agent(runs: Mapping[str, Run], host: str | None) -> UUID | None:
    run = None if host is None else runs.get(host)
    return None if run is None else run.agent_id


def _emit_for(
    transaction: Transaction, desktop: Desktop, message: Message, node: str | None
) -> None:
    with log.bound_contextvars(correlation_id=desktop.correlation_id):
        emit(transaction, message, node)
