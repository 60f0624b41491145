"""Ends what nobody came back to, and forgets what nobody needs."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from roost_broker import metrics
from roost_broker.ending import Ending
from roost_broker.repository.launches import Launches
from roost_broker.repository.login_failures import LoginFailures
from roost_broker.repository.sessions import Sessions
from roost_common import idempotency
from roost_common.contracts.session import SessionState
from roost_common.loops import Loop
from roost_common.outbox import Relay, UnitOfWork

BATCH: Final = 100
REAP_S: Final = 2.0
FORGET_S: Final = 60.0
LAUNCHES_KEPT: Final = timedelta(hours=1)
FAILURES_KEPT: Final = timedelta(hours=1)


class Reaper:
    """Two loops: overdue sessions every other second, old rows every minute."""

    def __init__(
        self,
        unit_of_work: UnitOfWork,
        ending: Ending,
        relay: Relay,
        *,
        sessions_kept: timedelta,
        abandoned: timedelta,
    ) -> None:
        self._unit = unit_of_work
        self._ending = ending
        self._relay = relay
        self._sessions_kept = sessions_kept
        self._abandoned = abandoned
        self.reaping = Loop("reaper", self.reap, REAP_S)
        self.forgetting = Loop("forget", self.forget, FORGET_S)

    async def reap(self) -> bool:
        """End overdue sessions, each in its own transaction; true when there may be more."""
        async with self._unit() as transaction:
            sessions = Sessions(transaction.session)
            overdue = await sessions.overdue(self._unit.clock.now(), BATCH)
        for session_id, _ in overdue:
            async with self._unit() as transaction:
                # Its user may have come in this moment: ask once more, under the lock.
                sessions = Sessions(transaction.session)
                await self._ending.lock(transaction, session_id)
                still = dict(await sessions.overdue(self._unit.clock.now(), BATCH, session_id))
                if session_id in still:
                    await self._ending.end(transaction, session_id, still[session_id])
        return len(overdue) == BATCH

    async def forget(self) -> None:
        """Delete history past its time, and count what is open."""
        now = self._unit.clock.now()
        await self._relay.prune_inbox()
        await self._relay.pending()
        async with self._unit() as transaction:
            session = transaction.session
            await Sessions(session).forget_ended(now - self._sessions_kept)
            await Launches(session, self._abandoned).forget(now, LAUNCHES_KEPT)
            await LoginFailures(session).forget(now - FAILURES_KEPT)
            await idempotency.forget(transaction, now - idempotency.KEPT)
            counts = await Sessions(session).counts()
        for state in SessionState:
            if state is not SessionState.ENDED:
                metrics.SESSIONS.labels(state.value).set(counts.get(state.value, 0))
