"""Makes desktops as they should be, one thing at a time for each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from uuid import UUID, uuid4
from weakref import WeakValueDictionary

from roost_common import log
from roost_common.clock import Clock
from roost_common.contracts.desktop import EnsureDesktop, Power
from roost_common.errors import Outage, RoostError, Unavailable
from roost_host_agent import metrics
from roost_host_agent.hypervisor.driver import DomainView, Hypervisor
from roost_host_agent.hypervisor.migration import MIGRATING
from roost_host_agent.observer import Observer
from roost_host_agent.plan import Action, Remove, Start, is_outdated, is_over, plan
from roost_host_agent.restarted import ends
from roost_host_agent.start_queue import StartQueue

logger = log.get_logger(__name__)


class Reconciler:
    """Applies commands and follows changes; never two at once for one desktop.

    ``admit`` is called before every start, and what it raises is the start's refusal; ``seen``
    before anything is said of a desktop that is here, and what it raises keeps it unsaid.
    """

    def __init__(
        self,
        driver: Hypervisor,
        observer: Observer,
        clock: Clock,
        *,
        new_boot_id: Callable[[], UUID] = uuid4,
        starts_at_once: int = 2,
        admit: Callable[[EnsureDesktop], None] | None = None,
        seen: Callable[[DomainView], None] | None = None,
    ) -> None:
        self._driver = driver
        self._observer = observer
        self._clock = clock
        self._new_boot_id = new_boot_id
        self._starts = StartQueue(starts_at_once)
        self._admit = admit
        self._seen = seen
        self._locks: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()
        self._pending: set[UUID] = set()
        self._group: asyncio.TaskGroup | None = None

    async def ensure(self, command: EnsureDesktop) -> None:
        """Bring the desired state about, and say what came of it, also when nothing was to do.

        A refusal is an observation with a problem. Raises `Outage` while the hypervisor is away,
        and `Unavailable` for trouble that may pass, after having said it.
        """
        number = self._starts.number()
        async with self._lock(command.desktop_id):
            observed = await self._look(command.desktop_id)
            removed = self._observer.removed(command.desktop_id)
            if is_outdated(command, observed, removed):
                metrics.ENSURES.labels("outdated").inc()
                logger.info("desktop.command-outdated", **_facts(command))
            else:
                await self._apply(command, plan(command, observed, self._clock.now()), number)
            await self._say(command.desktop_id, always=True)

    async def cut_power(self, desktop_id: UUID) -> None:
        """End this desktop if it must not outlive the node's lease; raises what the driver does."""
        async with self._lock(desktop_id):
            observed = await self._look(desktop_id)
            if observed is not None and ends(observed):
                await self._driver.remove(desktop_id, observed.mark.generation, None)
                logger.warning("desktop.ended-with-lease", id=str(desktop_id))

    def changed(self, desktop_id: UUID) -> None:
        """Look at this desktop soon; the driver's events and the report's findings call it."""
        if self._group is not None and desktop_id not in self._pending:
            self._pending.add(desktop_id)
            self._group.create_task(self._follow(desktop_id))

    def sweep(self, views: tuple[DomainView, ...]) -> None:
        """Follow up the desktops whose time to shut down is over."""
        now = self._clock.now()
        for view in views:
            if is_over(view, now):
                self.changed(view.mark.desktop_id)

    async def run(self) -> None:
        """Serve `changed` until cancelled; run the driver meanwhile."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._driver.run(self.changed))
        finally:
            self._group = None

    # --- within ---------------------------------------------------------------------------------

    async def _apply(
        self, command: EnsureDesktop, actions: tuple[Action, ...], number: int
    ) -> None:
        desktop_id, generation = command.desktop_id, command.generation
        try:
            for action in actions:
                await self._do(action, command, number)
        except Outage:
            raise
        except RoostError as refusal:
            if refusal.code == MIGRATING:
                # Neither here nor there for now. It is not refused either: inventory asks again.
                metrics.ENSURES.labels("migrating").inc()
                logger.info("desktop.migrating", **_facts(command))
                return
            self._observer.note_refused(desktop_id, generation, refusal.problem)
            metrics.ENSURES.labels("refused").inc()
            logger.warning(
                "desktop.refused", code=refusal.code, detail=refusal.detail, **_facts(command)
            )
            if isinstance(refusal, Unavailable):
                await self._say(desktop_id, always=True)
                raise
            return
        metrics.ENSURES.labels("done" if actions else "nothing").inc()
        if command.power is Power.OFF and not any(_asks(action) for action in actions):
            self._observer.note_removed(desktop_id, generation)
        else:
            self._observer.note_done(desktop_id)
        if actions:
            logger.info("desktop.applied", actions=[str(one) for one in actions], **_facts(command))

    async def _do(self, action: Action, command: EnsureDesktop, number: int) -> None:
        match action:
            case Start():
                async with self._starts.turn(number):
                    if self._admit is not None:
                        self._admit(command)
                    began = perf_counter()
                    await self._driver.start(command, self._new_boot_id())
                    metrics.START_SECONDS.observe(perf_counter() - began)
            case Remove(stop_by):
                await self._driver.remove(command.desktop_id, command.generation, stop_by)

    async def _follow(self, desktop_id: UUID) -> None:
        try:
            async with self._lock(desktop_id):
                self._pending.discard(desktop_id)
                observed = await self._look(desktop_id)
                if observed is not None and is_over(observed, self._clock.now()):
                    generation = observed.mark.generation
                    await self._driver.remove(desktop_id, generation, None)
                    self._observer.note_removed(desktop_id, generation)
                    logger.info("desktop.removed", desktop=str(desktop_id), generation=generation)
                await self._say(desktop_id)
        except RoostError as error:
            # The next report finds whatever is still to be found.
            logger.info("desktop.follow-failed", desktop=str(desktop_id), code=error.code)
        finally:
            self._pending.discard(desktop_id)

    async def _say(self, desktop_id: UUID, *, always: bool = False) -> None:
        at = self._observer.stamp()
        view = await self._look(desktop_id)
        if view is not None and self._seen is not None:
            self._seen(view)
        await self._observer.say(desktop_id, view, at, always=always)

    async def _look(self, desktop_id: UUID) -> DomainView | None:
        views = await self._driver.domains(desktop_id)
        return views[0] if views else None

    def _lock(self, desktop_id: UUID) -> asyncio.Lock:
        return self._locks.setdefault(desktop_id, asyncio.Lock())


def _asks(action: Action) -> bool:
    """Whether the desktop is still there after it."""
    return isinstance(action, Remove) and action.stop_by is not None


def _facts(command: EnsureDesktop) -> dict[str, object]:
    return {
        "desktop": command.desktop_name,
        "id": str(command.desktop_id),
        "generation": command.generation,
        "power": command.power.value,
    }
