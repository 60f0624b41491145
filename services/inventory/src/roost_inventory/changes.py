"""Publishing what changed: the one place where a desktop's revision grows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime

from roost_common import log
from roost_common.contracts.base import Message
from roost_common.outbox import Transaction
from roost_inventory.announce import again, differs, event_for
from roost_inventory.model import Desktop

logger = log.get_logger(__name__)


@contextmanager
def published(transaction: Transaction, *desktops: Desktop) -> Iterator[None]:
    """What the block changes of these desktops is said in one event each, if anybody would care."""
    before = [
        (one, one.view(), one.disk_ready, one.migration.id if one.migration else None)
        for one in desktops
    ]
    yield
    for desktop, view, disk_ready, migration_id in before:
        desktop.settle()
        if not differs(view, desktop.view()):
            continue
        desktop.revision += 1
        renewed = desktop.disk_ready != disk_ready and desktop.disk_ready > 1
        event = event_for(
            view,
            desktop.view(),
            disk_renewed=renewed,
            why=desktop.stop_reason,
            migration_id=migration_id,
        )
        with _caused(desktop):
            logger.info(
                "desktop.changed",
                event_name=event.name,
                desktop=str(desktop.id),
                state=desktop.state.value,
                host=desktop.host,
                problem=desktop.problem.code if desktop.problem else None,
            )
            transaction.emit(event)


def _caused(desktop: Desktop) -> AbstractContextManager[object]:
    """What no request or message causes now, the loop does for the one that ordered last."""
    if log.current("correlation_id"):
        return nullcontext()
    return log.bound_contextvars(correlation_id=desktop.correlation_id)


@contextmanager
def answered(transaction: Transaction, desktop: Desktop) -> Iterator[None]:
    """Whoever orders hears of the desktop: what the block changes, or else how it is.

    So a consumer that has lost an event is put right by asking again.
    """
    revision = desktop.revision
    yield
    if desktop.revision == revision:
        say_again(transaction, desktop)


def emit(transaction: Transaction, message: Message, node: str | None) -> None:
    """Say something to a node, or to everybody, if and when the transaction commits."""
    transaction.emit(message, node=node)


def say_again(transaction: Transaction, desktop: Desktop) -> Desktop:
    """Say how it is; the revision tells everybody who knows that it is nothing new."""
    transaction.emit(again(desktop.view()))
    return desktop


def publish_new(transaction: Transaction, desktop: Desktop, now: datetime) -> None:
    """Say that there is one more."""
    desktop.touch(now)
    logger.info("desktop.created", desktop=str(desktop.id), name=desktop.name)
    transaction.emit(event_for(None, desktop.view(), disk_renewed=False, why=desktop.stop_reason))
