"""Messages in: the routing table of imaging."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from roost_common.contracts.base import Delivery, Message
from roost_common.contracts.disk import EnsureDisk
from roost_common.topology import service_queue
from roost_imaging.disks import DiskKeeper

QUEUE: Final = service_queue("imaging", EnsureDisk)


class Handlers:
    """Takes messages to their use case."""

    def __init__(self, disks: DiskKeeper) -> None:
        self._disks = disks
        self._routes: dict[type[Message], Callable[[Delivery], Awaitable[None]]] = {
            EnsureDisk: self._ensure_disk
        }

    async def handle(self, delivery: Delivery) -> None:
        """One message; a type without a route is a fault of the bindings and raises KeyError."""
        await self._routes[type(delivery.message)](delivery)

    async def _ensure_disk(self, delivery: Delivery) -> None:
        assert isinstance(delivery.message, EnsureDisk)  # noqa: S101 - by the routing table
        await self._disks.ensure(delivery.message, delivery)
