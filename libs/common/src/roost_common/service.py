"""The runner: one process, a task group, a clean stop.

``python -m roost_x`` runs the service; ``--show-config`` prints its settings, ``migrate`` brings
its schema up to date, ``check-migrations`` fails when models and migrations differ.

Any task that crashes ends the process with 1, and its supervisor starts it anew. On SIGTERM or
SIGINT it takes no more work, finishes what is in hand, and leaves with 0.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import uvicorn
import uvloop
from pydantic import ValidationError
from starlette.types import ASGIApp

from roost_common import log
from roost_common.bus import Bus
from roost_common.loops import endless
from roost_common.settings import ServiceSettings, show

if TYPE_CHECKING:
    from roost_common.db import Migrations

logger = log.get_logger(__name__)

STOP_DEADLINE_S: Final = 25.0
"""Less than the 30 s that container platforms grant between SIGTERM and SIGKILL."""

S = TypeVar("S", bound=ServiceSettings)


@dataclass
class Parts:
    """What a service's ``bootstrap.build`` made: what runs, in which order it stops."""

    bus: Bus
    app: ASGIApp
    tasks: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    """Loops, relays: cancelled after the bus and HTTP have been drained."""
    on_stopping: list[Callable[[], None]] = field(default_factory=list)
    """Called first, before HTTP takes no more: for requests that wait for something."""
    on_stop: list[Callable[[], Awaitable[Any]]] = field(default_factory=list)
    """Called last, whatever happened, in order."""


Build = Callable[[S], AbstractAsyncContextManager[Parts]]


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which would end the neighbours in the group."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main(
    name: str,
    settings_class: type[S],
    build: Build[S],
    *,
    migrations: Migrations | None = None,
    argv: Sequence[str] | None = None,
) -> None:
    """The ``__main__`` of every service; does not return."""
    parser = argparse.ArgumentParser(prog=f"roost-{name}")
    parser.add_argument("--show-config", action="store_true", help="print the settings and leave")
    if migrations is not None:
        parser.add_argument(
            "command", nargs="?", choices=["run", "migrate", "check-migrations"], default="run"
        )
    arguments = parser.parse_args(argv)
    try:
        settings = settings_class()  # values come from the environment
    except ValidationError as error:
        sys.exit(f"roost-{name}: the settings are not right:\n{_explain(error, settings_class)}")
    if arguments.show_config:
        print(show(settings))  # noqa: T201 - this is the command's output
        sys.exit(0)
    log.configure(name, settings.log_level, json=settings.log_json)
    command = getattr(arguments, "command", "run")
    if migrations is not None and command != "run":
        url = settings.database_url.get_secret_value()  # type: ignore[attr-defined]
        work = migrations.upgrade(url) if command == "migrate" else migrations.check(url)
        asyncio.run(work)
        sys.exit(0)
    sys.exit(uvloop.run(_run(name, settings, build)))


def _explain(error: ValidationError, settings_class: type[ServiceSettings]) -> str:
    prefix = settings_class.model_config.get("env_prefix", "")
    return "\n".join(
        f"  {prefix}{'.'.join(map(str, item['loc']))}".upper() + f": {item['msg']}"
        for item in error.errors(include_input=False)
    )


async def _run(name: str, settings: S, build: Build[S]) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with build(settings) as parts, running(parts, settings):
            logger.info("service.started", listen=settings.listen)
            await stop.wait()
            logger.info("service.stopping")
    except Exception:
        logger.exception("service.crashed")
        return 1
    logger.info("service.stopped")
    return 0


@asynccontextmanager
async def running(parts: Parts, settings: ServiceSettings) -> AsyncIterator[None]:
    """Everything runs inside the block; leaving it stops in order. Tests use it as well."""
    server = _Server(
        uvicorn.Config(
            parts.app,
            host=settings.listen_host,
            port=settings.listen_port,
            log_config=None,
            access_log=False,
            lifespan="off",
            proxy_headers=True,
            timeout_graceful_shutdown=int(STOP_DEADLINE_S) - 5,
            server_header=False,
        )
    )
    try:
        async with asyncio.TaskGroup() as group:
            http = group.create_task(_serve(server), name="http")
            bus = group.create_task(endless(parts.bus.run), name="bus")
            others = [
                group.create_task(endless(task), name=name) for name, task in parts.tasks.items()
            ]
            yield
            for notify in parts.on_stopping:
                notify()
            server.should_exit = True
            await asyncio.gather(http, parts.bus.drain(STOP_DEADLINE_S - 5))
            for task in [*others, bus]:
                task.cancel()
    finally:
        for call in parts.on_stop:
            await call()


async def _serve(server: uvicorn.Server) -> None:
    try:
        await server.serve()
    except SystemExit as error:
        # uvicorn leaves that way when the port is taken; a task group wants an error.
        raise RuntimeError("HTTP could not start; is the port taken?") from error
    finally:
        # Cancelled, uvicorn leaves its port open: nobody may connect to what does not answer.
        for listener in getattr(server, "servers", ()):
            listener.close()
    if not server.should_exit:
        raise RuntimeError("HTTP ended by itself")
