"""One connection to libvirtd that mends itself, and the threads its calls run in.

libvirt's API blocks, so calls run in a small thread pool. Its events come through libvirt's own
event loop in a thread of its own, not through ``libvirtaio``: that adapter may only be entered
from the asyncio thread, while every call made in a pool thread updates libvirt's watches and
timers from there. The events reach asyncio by ``call_soon_threadsafe``.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, TypeVar
from uuid import UUID

import libvirt

from roost_common import log
from roost_common.errors import Outage, Unavailable
from roost_host_agent.hypervisor.driver import outage
from roost_host_agent.hypervisor.libvirt_errors import translate

logger = log.get_logger(__name__)

T = TypeVar("T")

KEEPALIVE_S: Final = 5
KEEPALIVE_COUNT: Final = 3
"""A libvirtd silent for 5 x 3 s is given up, and calls waiting for it fail."""
OPEN_DEADLINE_S: Final = 15.0
CALL_DEADLINE_S: Final = 60.0
"""Longer than libvirt's own 30 s of waiting for a domain's monitor."""
THREADS: Final = 6
RECONNECT_FIRST_S: Final = 0.2
RECONNECT_MAX_S: Final = 5.0

_EVENTS: Final = (
    libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
    libvirt.VIR_DOMAIN_EVENT_ID_GRAPHICS,
    libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
    libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE,
)
_ARRIVED: Final = (
    libvirt.VIR_DOMAIN_EVENT_RESUMED,
    libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED,
)

_events_lock = threading.Lock()
_events_running = False


def run_events() -> None:
    """Start libvirt's event loop, once in a process, before the first connection."""
    global _events_running  # noqa: PLW0603 - libvirt itself keeps one loop in a process
    with _events_lock:
        if _events_running:
            return
        # libvirt prints every error to stderr unless somebody takes it; ours are exceptions.
        libvirt.registerErrorHandler(_swallow, None)
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=_dispatch, name="libvirt-events", daemon=True).start()
        _events_running = True


def _swallow(_context: Any, _error: Any) -> None:
    """The same error is raised as `libvirtError`; there it is handled."""


def _dispatch() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


EventHandler = Callable[[int, UUID], None]
"""Called on the asyncio loop with libvirt's event id and the domain's UUID."""


class Connection:
    """Calls to one libvirtd; ``run`` keeps it connected until cancelled."""

    def __init__(
        self,
        uri: str,
        *,
        on_event: EventHandler,
        on_connected: Callable[[], None],
        on_arrived: Callable[[UUID], None],
    ) -> None:
        """``on_arrived``: a guest that was moved to here runs; after its event, on the loop."""
        self._uri = uri
        self._on_event = on_event
        self._on_arrived = on_arrived
        self._on_connected = on_connected
        self._conn: libvirt.virConnect | None = None
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="libvirt")
        self._lost = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._callbacks: list[int] = []

    @property
    def connected(self) -> bool:
        """Whether calls have a chance now."""
        return self._conn is not None

    async def run(self) -> None:
        """Connect, and again whenever the connection is lost. Fails once and recovers once in
        the log, however long it takes."""
        run_events()
        self._loop = asyncio.get_running_loop()
        delay, failing = RECONNECT_FIRST_S, False
        try:
            while True:
                self._lost.clear()
                try:
                    async with asyncio.timeout(OPEN_DEADLINE_S):
                        self._conn = await self._in_thread(self._open)
                except (libvirt.libvirtError, TimeoutError) as error:
                    if not failing:
                        logger.warning("libvirt.unreachable", uri=self._uri, error=str(error))
                    failing = True
                    self._fresh_pool()
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, RECONNECT_MAX_S)
                    continue
                logger.info("libvirt.recovered" if failing else "libvirt.connected", uri=self._uri)
                delay, failing = RECONNECT_FIRST_S, False
                self._on_connected()
                await self._lost.wait()
                failing = True
                logger.warning("libvirt.lost", uri=self._uri)
                self._drop()
        finally:
            self._drop()
            self._pool.shutdown(wait=False)

    async def call(
        self,
        work: Callable[[libvirt.virConnect], T],
        *,
        deadline_s: float = CALL_DEADLINE_S,
        pool: Executor | None = None,
    ) -> T:
        """Do ``work`` in a thread, of ``pool`` where it must not take one of the common ones.

        Raises `Outage` without a connection, `Unavailable` after the deadline (the thread goes on
        until libvirt gives up), and libvirt's errors translated.
        """
        conn = self._conn
        if conn is None:
            raise outage()
        try:
            async with asyncio.timeout(deadline_s):
                return await self._in_thread(lambda: work(conn), pool)
        except TimeoutError:
            raise Unavailable(
                "host.libvirt-busy", "libvirt has not answered in {seconds} s.", seconds=deadline_s
            ) from None
        except libvirt.libvirtError as error:
            ours = translate(error)
            if isinstance(ours, Outage) and conn is self._conn:
                self._lost.set()
            raise ours from error

    async def _in_thread(self, work: Callable[[], T], pool: Executor | None = None) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool or self._pool, work)

    def _fresh_pool(self) -> None:
        # Threads that hang in a dead libvirtd are left behind, not waited for.
        self._pool.shutdown(wait=False)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="libvirt")

    def _drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            self._pool.submit(_close, conn, self._callbacks)
            self._fresh_pool()

    # --- in a thread of the pool ----------------------------------------------------------------

    def _open(self) -> libvirt.virConnect:
        conn = libvirt.open(self._uri)
        # The mock driver knows neither; it lives in this process and cannot be lost.
        with suppress(libvirt.libvirtError):
            conn.setKeepAlive(KEEPALIVE_S, KEEPALIVE_COUNT)
        with suppress(libvirt.libvirtError):
            conn.registerCloseCallback(self._closed, None)
        self._callbacks = [
            conn.domainEventRegisterAny(None, event, self._event, event) for event in _EVENTS
        ]
        return conn

    # --- in the thread of libvirt's events ------------------------------------------------------

    def _closed(self, _conn: Any, _reason: int, _opaque: Any) -> None:
        self._tell(self._lost.set)

    def _event(self, _conn: Any, domain: libvirt.virDomain, *details: Any) -> None:
        event, desktop_id = int(details[-1]), UUID(domain.UUIDString())
        self._tell(lambda: self._on_event(event, desktop_id))
        if event == libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE and details[:2] == _ARRIVED:
            self._tell(lambda: self._on_arrived(desktop_id))

    def _tell(self, what: Callable[[], None]) -> None:
        loop = self._loop
        # The process may be past its loop while libvirt still delivers.
        with suppress(RuntimeError):
            if loop is not None:
                loop.call_soon_threadsafe(what)


def _close(conn: libvirt.virConnect, callbacks: list[int]) -> None:
    for callback in callbacks:
        with suppress(libvirt.libvirtError):
            conn.domainEventDeregisterAny(callback)
    with suppress(libvirt.libvirtError):
        conn.unregisterCloseCallback()
    with suppress(libvirt.libvirtError):
        conn.close()
