"""What a launch gets: a desktop, a place in the queue, or a reason why not.

Everything here happens in one transaction of the caller's.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID, uuid4

from roost_broker import protocol
from roost_broker.ending import Moved
from roost_broker.launch import Client, Granted, Place, Queued, Refused, Step, Wish
from roost_broker.launch_attempt import Attempt, columns
from roost_broker.model import LaunchState
from roost_broker.queue import Outlook, Picture, outlook, reason, retry_after_ms
from roost_broker.repository.desktops import Desktops
from roost_broker.repository.identities import Identities, Known
from roost_broker.repository.launch_path import LaunchPath, Situation
from roost_broker.repository.launches import Launches
from roost_broker.repository.pools import Pools
from roost_broker.repository.sessions import Sessions
from roost_common.clock import Clock
from roost_common.contracts.session import SessionRequested
from roost_common.errors import Conflict, Forbidden, NoCapacity, NotFound, Unavailable
from roost_common.outbox import Transaction

EXHAUSTED_RETRY_S = 15.0
TROUBLED_RETRY_S = 10.0
UNREACHABLE_RETRY_S = 2.0


class LaunchDecision:
    """Decides and records.

    The user's row is locked first: a user's launches take turns, so that two at once never make
    two sessions.
    """

    def __init__(self, clock: Clock, moved: Moved, abandoned: timedelta) -> None:
        self._clock = clock
        self._moved = moved
        self._abandoned = abandoned

    async def first(
        self, transaction: Transaction, user_id: UUID, wish: Wish, launch_id: UUID
    ) -> Step:
        """Answer a new wish."""
        _, why = protocol.choose(wish.protocols)
        user = await Identities(transaction.session).lock_live(user_id)
        pool, session_id = await self._meant(transaction, user, wish)
        situation = await self._situation(transaction, pool, user, new=wish.new)
        if session_id is None and not wish.new:
            session_id = situation.latest
        if session_id is not None:
            attempt = Attempt(user, situation.pool, wish.client, why, wish.new, launch_id, None)
            granted = await self._reopen(transaction, attempt, session_id)
            if granted is not None:
                return granted
            # It ended in this moment, and is counted no more.
            situation = await self._situation(transaction, pool, user, new=wish.new)
        if situation.own_launch is not None:
            return await self._look(
                transaction, user, situation.own_launch, None, joins=wish.client
            )
        attempt = Attempt(user, situation.pool, wish.client, why, wish.new, launch_id, None)
        return await self._serve(transaction, attempt, situation, situation.waiting + 1)

    async def look(
        self, transaction: Transaction, user_id: UUID, launch_id: UUID, *, waiting: bool = False
    ) -> Step:
        """Answer a wish that was answered before.

        ``waiting``: in this very request, so that its user has not given it up, however long that
        takes. Raises `NotFound` (``launch.unknown``), `Conflict` (``launch.session-ended``).
        """
        asked_at = None if waiting else self._clock.now()
        user = await Identities(transaction.session).lock_live(user_id)
        return await self._look(transaction, user, launch_id, asked_at)

    async def _look(
        self,
        transaction: Transaction,
        user: Known,
        launch_id: UUID,
        asked_at: datetime | None,
        *,
        joins: Client | None = None,
    ) -> Step:
        launches = Launches(transaction.session, self._abandoned)
        launch = await launches.of_user(launch_id, user.id, asked_at)
        now = self._clock.now()
        launch.polled_at = now
        if joins is not None:
            # The screen opens there, where it was asked for last.
            for column, value in columns(joins).items():
                setattr(launch, column, value)
        situation = await self._situation(
            transaction, str(launch.pool_id), user, new=launch.wants_new
        )
        client = Client(
            launch.client_address,
            launch.client_name,
            launch.monitors,
            launch.fullscreen,
            launch.thin_link,
        )
        attempt = Attempt(
            user, situation.pool, client, launch.reason, launch.wants_new, launch_id, launch
        )
        session_id = launch.session_id
        if session_id is None and not launch.wants_new:
            session_id = situation.latest  # another of the user's clients was faster
        if session_id is not None:
            granted = await self._reopen(transaction, attempt, session_id)
            if granted is not None:
                return granted
        if launch.session_id is not None:
            raise Conflict(
                "launch.session-ended",
                "The session of launch {launch} has ended; launch again.",
                launch=str(launch_id),
            )
        position = await launches.position(launch, now)
        return await self._serve(transaction, attempt, situation, position)

    async def _meant(
        self, transaction: Transaction, user: Known, wish: Wish
    ) -> tuple[str, UUID | None]:
        """Which pool is meant, by name or id, and which open session if one of them is."""
        if wish.desktop is not None:
            for session in await Sessions(transaction.session).open_of_user(user.id):
                if wish.desktop in (session.desktop_name, str(session.desktop_id)):
                    return str(session.pool_id), session.id
            raise NotFound(
                "desktop.unknown", "You have no desktop {desktop}.", desktop=wish.desktop
            )
        if wish.pool is not None:
            return wish.pool, None
        choice = await Pools(transaction.session).entitled(user.id)
        if not choice:
            raise Forbidden("pool.not-entitled", "You are not entitled to any desktop.")
        if len(choice) > 1:
            names = [pool.name for pool in choice]
            raise Conflict("launch.choose", "Name one of your pools: {names}.", names=names)
        return str(choice[0].id), None

    async def _situation(
        self, transaction: Transaction, pool: str, user: Known, *, new: bool
    ) -> Situation:
        """Raises `NotFound` (``pool.unknown``), `Forbidden` (``pool.not-entitled``)."""
        launches, now = Launches(transaction.session, self._abandoned), self._clock.now()
        situation = await LaunchPath(transaction.session).situation(
            pool, user.id, new=new, alive=launches.alive(now), kept=launches.kept(now)
        )
        if situation is None:
            raise NotFound("pool.unknown", "There is no pool {pool}.", pool=pool)
        if not situation.entitled:
            raise Forbidden(
                "pool.not-entitled", "You are not entitled to {pool}.", pool=situation.pool.name
            )
        return situation

    async def _serve(
        self, transaction: Transaction, attempt: Attempt, situation: Situation, position: int
    ) -> Step:
        """The first free desktop, if it is this launch's turn; a place in the queue if not."""
        if attempt.new and situation.held >= attempt.pool.max_per_user:
            raise Conflict(
                "pool.max-per-user",
                "{pool} gives each user at most {most} desktops.",
                pool=attempt.pool.name,
                most=attempt.pool.max_per_user,
            )
        desktops = Desktops(transaction.session)
        picture: Picture | None = None
        if position > 1:
            # Those in front come first; behind them is room only when enough are free.
            picture = await self._picture(desktops, attempt)
        if picture is None or position <= picture.free:
            granted = await self._take(transaction, attempt)
            if granted is not None:
                return granted
            picture = await self._picture(desktops, attempt)
        launches = Launches(transaction.session, self._abandoned)
        if outlook(position, picture) in (Outlook.EXHAUSTED, Outlook.TROUBLED):
            # Somebody in front may have taken a desktop between the two looks. A place that is
            # looked at after the desktops can only be too good.
            position = await self._position(launches, attempt)
        step = await self._queue(launches, attempt, position, picture)
        if isinstance(step, Queued) and attempt.launch is None:
            transaction.after_commit(lambda: self._moved(step.pool_id))
        return step

    async def _position(self, launches: Launches, attempt: Attempt) -> int:
        now = self._clock.now()
        if attempt.launch is not None:
            return await launches.position(attempt.launch, now)
        return (await launches.waiting([attempt.pool.id], now)).get(attempt.pool.id, 0) + 1

    async def _picture(self, desktops: Desktops, attempt: Attempt) -> Picture:
        pool = attempt.pool
        pictures = await desktops.pictures([(pool.id, pool.max)], self._clock.now())
        return pictures[pool.id]

    async def _queue(
        self, launches: Launches, attempt: Attempt, position: int, picture: Picture
    ) -> Step:
        prospect = outlook(position, picture)
        if prospect is Outlook.EXHAUSTED:
            return Refused(
                NoCapacity(
                    "pool.exhausted",
                    "All desktops of {pool} are in use.",
                    retry_after_s=EXHAUSTED_RETRY_S,
                    pool=attempt.pool.name,
                )
            )
        if prospect is Outlook.TROUBLED:
            problem = reason(picture)
            assert problem is not None  # noqa: S101 - that is what troubled means
            return Refused(
                NoCapacity(
                    problem.code, "{reason}", retry_after_s=TROUBLED_RETRY_S, reason=problem.detail
                )
            )
        if attempt.launch is None:
            number = await launches.add(**attempt.row(LaunchState.QUEUED, None, self._now()))
        else:
            number = attempt.launch.place
        starting = prospect is not Outlook.QUEUED
        return Queued(
            attempt.launch_id,
            attempt.pool.id,
            number,
            starting,
            position,
            retry_after_ms(position),
        )

    # --- what is recorded ---------------------------------------------------------------------

    async def _take(self, transaction: Transaction, attempt: Attempt) -> Granted | None:
        session_id = uuid4()
        path = LaunchPath(transaction.session)
        place = await path.take(attempt, session_id, self._clock.now())
        if place is None:
            return None
        _record(attempt, session_id)
        transaction.emit(
            SessionRequested(
                session_id=session_id,
                user=attempt.user.name,
                desktop_id=place.desktop_id,
                desktop_name=place.name,
                pool=attempt.pool.name,
                revision=1,
                client_name=attempt.client.name,
                client_address=attempt.client.address,
            )
        )
        pool_id = attempt.pool.id
        transaction.after_commit(lambda: self._moved(pool_id))
        return attempt.granted(session_id, place)

    async def _reopen(
        self, transaction: Transaction, attempt: Attempt, session_id: UUID
    ) -> Granted | Queued | None:
        """The same desktop again, or the time until it is back; None when the session has ended."""
        path = LaunchPath(transaction.session)
        session = await path.reopen(attempt, session_id, self._clock.now())
        if session is None:
            return None
        if session.restarting:
            _record(attempt, session_id)
            return attempt.awaited()
        if session.host is None:
            raise Unavailable(
                "host.unreachable",
                "The host of {desktop} does not answer for now.",
                retry_after_s=UNREACHABLE_RETRY_S,
                desktop=session.desktop_name,
            )
        place = Place(session.desktop_id, session.desktop_name, session.host, session.boot_id)
        # Nothing has changed for anybody else: who holds the desktop was said when it was taken,
        # and the node will tell when the client comes.
        _record(attempt, session_id)
        return attempt.granted(session_id, place)

    def _now(self) -> datetime:
        return self._clock.now()


def _record(attempt: Attempt, session_id: UUID) -> None:
    """A launch that waited has its desktop."""
    if attempt.launch is not None:
        attempt.launch.state = LaunchState.READY
        attempt.launch.session_id = session_id
