"""What the endpoints need, put under ``app.state`` by the bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from roost_common.bus import Bus
from roost_common.contracts.base import Body, Query
from roost_common.outbox import UnitOfWork
from roost_inventory.migrating import Migrating
from roost_inventory.settings import Settings

B = TypeVar("B", bound=Body)


@dataclass(frozen=True)
class Inventory:
    """The service's parts, as its endpoints see them."""

    unit_of_work: UnitOfWork
    settings: Settings
    bus: Bus
    wake: Callable[[], None]

    @property
    def migrating(self) -> Migrating:
        """Orders of migrations."""
        return Migrating(self.unit_of_work, self.settings, self.wake)

    async def ask(self, query: Query, node: str, answer: type[B], *, deadline_s: float) -> B:
        """Ask a node's agent. Raises `Unavailable` when it does not answer, or its refusal."""
        return await self.bus.request(query, node, answer, deadline_s=deadline_s)


async def _inventory(request: Request) -> Inventory:
    found: Inventory = request.app.state.inventory
    return found


Service = Annotated[Inventory, Depends(_inventory)]
