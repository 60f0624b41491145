"""Keeps every pool what it should be: reads, plans (`pool_plan`), writes and orders.

Copies share the pools by a lock on the pool's row. A pool in motion is looked at every few
seconds, a quiet one now and then, and any of them at once when this process learns something.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

from roost_broker import metrics
from roost_broker.ending import Ending
from roost_broker.model import Pool, PoolDesktop
from roost_broker.phase import Phase
from roost_broker.pool_plan import (
    Action,
    AskAgain,
    Create,
    Delete,
    Member,
    Reimage,
    Start,
    Wish,
    plan,
)
from roost_broker.repository.desktops import Desktops
from roost_broker.repository.launches import Launches
from roost_broker.repository.pools import Pools
from roost_broker.repository.sessions import Sessions
from roost_common import log
from roost_common.contracts.desktop import (
    CreateDesktop,
    DeleteDesktop,
    Power,
    ReimageDesktop,
    SetDesktopPower,
)
from roost_common.contracts.session import EndReason
from roost_common.contracts.spec import TemplateRef
from roost_common.loops import Loop
from roost_common.outbox import Transaction, UnitOfWork

logger = log.get_logger(__name__)

QUIET_S: Final = 15.0
"""How often a pool is looked at in which nothing moves, in case a copy died with news of it."""
BREATH_S: Final = 0.2
LONGEST_BREATH_S: Final = 2.0
SHARE: Final = 0.1
"""Of the time, that plans may take: a storm of events does not become a storm of plans."""
NAME_AVOIDED: Final = timedelta(minutes=10)


class PoolLoop:
    """The loop of one process."""

    def __init__(
        self,
        unit_of_work: UnitOfWork,
        *,
        interval_s: float,
        shrink_after: timedelta,
        abandoned: timedelta,
    ) -> None:
        self._unit = unit_of_work
        self._interval_s = interval_s
        self._shrink_after = shrink_after
        self._abandoned = abandoned
        self._news: set[UUID] = set()
        self._in_motion: dict[UUID, float] = {}
        self._all_at = float("-inf")
        self._loop = Loop("pools", self.step, interval_s)
        self._ending: Ending | None = None

    def ends_with(self, ending: Ending) -> None:
        """Sessions of a pool that is deleted end this way; set once, before `run`."""
        self._ending = ending

    def wake(self, pool_id: UUID) -> None:
        """There is something new to plan."""
        self._news.add(pool_id)
        self._loop.wake()

    async def run(self) -> None:
        """For ever."""
        await self._loop.run()

    async def step(self) -> bool:
        """Plan what is due; true when more is to be done at once."""
        started = self._unit.clock.monotonic()
        due = await self._due()
        for pool_id in due:
            self._news.discard(pool_id)
            try:
                await self._turn(pool_id)
            except BaseException:
                self._news.add(pool_id)
                raise
        if due:
            took_s = self._unit.clock.monotonic() - started
            await asyncio.sleep(min(max(BREATH_S, took_s / SHARE), LONGEST_BREATH_S))
        return bool(self._news)

    async def _due(self) -> list[UUID]:
        now = self._unit.clock.monotonic()
        due = set(self._news)
        due.update(key for key, at in self._in_motion.items() if now - at >= self._interval_s)
        if now - self._all_at >= QUIET_S:
            async with self._unit() as transaction:
                due.update(await Pools(transaction.session).ids())
            self._all_at = now
        return sorted(due)

    async def _turn(self, pool_id: UUID) -> None:
        """One transaction for one pool."""
        self._in_motion.pop(pool_id, None)
        async with self._unit() as transaction:
            pools = Pools(transaction.session)
            pool = await pools.claim(pool_id)
            if pool is None:
                if pool_id in await pools.ids():
                    # Another copy plans it now, and may not know yet what this one knows.
                    self._news.add(pool_id)
                return
            now = self._unit.clock.now()
            desktops = Desktops(transaction.session)
            await desktops.forget_refused(pool_id, now - NAME_AVOIDED)
            template = await pools.template_of(pool)
            members = await desktops.members(pool, template)
            launches = Launches(transaction.session, self._abandoned)
            waiting = (await launches.waiting([pool_id], now)).get(pool_id, 0)
            wish = Wish(
                name=pool.name,
                min=pool.min,
                max=pool.max,
                spare=pool.spare,
                shrink_after=self._shrink_after,
                makeable=template is not None,
                deleting=pool.deleting,
            )
            actions = plan(wish, members, waiting, now)
            with log.bound_contextvars(**_cause(pool)):
                for action in actions:
                    await self._do(transaction, pool, template, action)
            if pool.deleting and not any(member.phase is not Phase.REFUSED for member in members):
                await desktops.forget_all(pool_id)
                await transaction.session.delete(pool)
                logger.info("pool.gone", pool=pool.name)
                return
        if actions or waiting or _moving(members, wish, waiting):
            self._in_motion[pool_id] = self._unit.clock.monotonic()

    async def _do(
        self, transaction: Transaction, pool: Pool, template: TemplateRef | None, action: Action
    ) -> None:
        metrics.POOL_ACTIONS.labels(type(action).__name__.lower()).inc()
        now = self._unit.clock.now()
        if isinstance(action, Create):
            if template is not None:
                self._create(transaction, pool, template, action.name)
            return
        desktop = await Desktops(transaction.session).lock(UUID(str(action.id)))
        # A launch or an event may have come between the plan and the lock.
        if desktop is None:
            return
        if isinstance(action, Delete):
            if desktop.session_id is not None:
                if not pool.deleting or self._ending is None:
                    return
                # Before its session ends: a desktop that leaves needs no fresh disk.
                desktop.leaving = True
                session = await Sessions(transaction.session).lock(desktop.session_id)
                if session is not None and session.is_open:
                    reason = EndReason.DESKTOP_DELETED
                    await self._ending.finish(transaction, session, desktop, reason)
            desktop.leave(now)
            transaction.emit(DeleteDesktop(desktop_id=desktop.id))
        elif desktop.session_id is not None or desktop.leaving:
            return
        elif isinstance(action, AskAgain):
            if template is not None and desktop.revision == 0:
                desktop.template_id, desktop.template_version = template.id, template.version
                desktop.spec = pool.spec
                desktop.commanded(now)
                transaction.emit(_create_command(desktop, template, pool))
        elif isinstance(action, Start):
            desktop.commanded(now)
            transaction.emit(SetDesktopPower(desktop_id=desktop.id, power=Power.ON))
        else:
            self._reimage(transaction, desktop, template, action)

    def _create(
        self, transaction: Transaction, pool: Pool, template: TemplateRef, name: str
    ) -> None:
        desktop = PoolDesktop.requested(
            uuid4(),
            pool_id=pool.id,
            name=name,
            template=template,
            spec=pool.spec,
            now=self._unit.clock.now(),
        )
        transaction.session.add(desktop)
        transaction.emit(_create_command(desktop, template, pool))

    def _reimage(
        self,
        transaction: Transaction,
        desktop: PoolDesktop,
        template: TemplateRef | None,
        action: Reimage,
    ) -> None:
        desktop.renew(action.generation, self._unit.clock.now())
        transaction.emit(
            ReimageDesktop(
                desktop_id=desktop.id, disk_generation=action.generation, template=template
            )
        )


def _cause(pool: Pool) -> dict[str, str]:
    """What the loop does for a pool has no one cause, but for its deletion."""
    if not pool.deleting or pool.correlation_id is None:
        return {}
    return {"correlation_id": pool.correlation_id}


def _create_command(desktop: PoolDesktop, template: TemplateRef, pool: Pool) -> CreateDesktop:
    return CreateDesktop(
        desktop_id=desktop.id,
        desktop_name=desktop.name,
        pool_id=pool.id,
        template=template,
        spec=pool.hardware,
    )


def _moving(members: list[Member], wish: Wish, waiting: int) -> bool:
    """Whether something is under way, or time alone will make something due."""
    restless = (Phase.COMING, Phase.TROUBLED, Phase.LEAVING)
    free = sum(member.phase is Phase.FREE for member in members)
    outdated = any(not (member.template_current and member.spec_current) for member in members)
    refused = any(member.phase is Phase.REFUSED for member in members)
    return (
        any(member.phase in restless for member in members)
        or free != wish.spare + waiting
        or outdated
        or refused
    )
