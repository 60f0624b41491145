"""The end of a session: the user loses the desktop, the desktop gets a fresh disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import UUID

from roost_broker.displays import Displays
from roost_broker.launch import Place
from roost_broker.model import Pool, PoolDesktop, Session
from roost_broker.repository.desktops import Desktops
from roost_broker.repository.pools import Pools
from roost_broker.repository.sessions import Sessions
from roost_common import log
from roost_common.clock import Clock
from roost_common.contracts.desktop import ReimageDesktop
from roost_common.contracts.session import EndReason
from roost_common.errors import Conflict
from roost_common.outbox import Transaction

logger = log.get_logger(__name__)

_STILL_RUNS: Final = frozenset(
    {
        EndReason.LOGGED_OFF,
        EndReason.NEVER_CONNECTED,
        EndReason.DISCONNECTED_TOO_LONG,
        EndReason.DESKTOP_DELETED,
    }
)
"""Ends after which somebody may still look at the screen."""

Moved = Callable[[UUID], None]
"""Told which pool has something new to plan."""


class Ending:
    """Ends sessions inside a transaction of the caller's."""

    def __init__(self, displays: Displays, moved: Moved, clock: Clock) -> None:
        self._clock = clock
        self._displays = displays
        self._moved = moved

    async def lock(self, transaction: Transaction, session_id: UUID) -> None:
        """Desktop and session are nobody else's to change until the end of the transaction."""
        sessions = Sessions(transaction.session)
        known = await sessions.get(session_id)
        await Desktops(transaction.session).lock(known.desktop_id)
        await sessions.lock(session_id)

    async def cut_off(self, transaction: Transaction, session_id: UUID) -> None:
        """Close its screen after the transaction; the session stays. Raises `Conflict`."""
        session = await Sessions(transaction.session).get(session_id)
        host = await Desktops(transaction.session).host_of(session.desktop_id)
        if not session.is_open or host is None:
            raise Conflict("session.not-connected", "The session has no screen to be closed.")
        place = Place(session.desktop_id, session.desktop_name, host, session.boot_id)
        transaction.after_commit(lambda: self._displays.close_later(place))

    async def end(self, transaction: Transaction, session_id: UUID, reason: EndReason) -> bool:
        """End it unless it has ended; returns whether it was open. Raises `NotFound`."""
        sessions = Sessions(transaction.session)
        known = await sessions.get(session_id)
        if not known.is_open:
            return False
        desktop = await Desktops(transaction.session).lock(known.desktop_id)
        session = await sessions.lock(session_id)
        if session is None or not session.is_open:
            return False
        await self.finish(transaction, session, desktop, reason)
        return True

    async def finish(
        self,
        transaction: Transaction,
        session: Session,
        desktop: PoolDesktop | None,
        reason: EndReason,
    ) -> None:
        """The same for rows that are locked; the desktop is None when it is no more."""
        now = self._clock.now()
        transaction.emit(session.end(reason, now))
        pool_id = session.pool_id
        transaction.after_commit(lambda: self._moved(pool_id))
        logger.info(
            "session.ended", session=str(session.id), user=session.user_name, reason=str(reason)
        )
        if desktop is None or desktop.session_id != session.id:
            return
        if reason in _STILL_RUNS and desktop.host and desktop.boot_id == session.boot_id:
            place = Place(desktop.id, desktop.name, desktop.host, session.boot_id)
            transaction.after_commit(lambda: self._displays.close_later(place))
        if desktop.leaving:
            desktop.session_id = None
            desktop.settle(now)
            return
        generation = desktop.release(session.boot_id, now)
        pool = await transaction.session.get(Pool, desktop.pool_id)
        template = None if pool is None else await Pools(transaction.session).template_of(pool)
        transaction.emit(
            ReimageDesktop(desktop_id=desktop.id, disk_generation=generation, template=template)
        )
