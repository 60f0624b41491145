"""Inventory as tests drive it: real handlers, loop and database; messages are handed on by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sa
from tests.unit.inventory.movers import Movers
from tests.unit.inventory.stage import SMALL, TEMPLATE, FakeImaging, FakeNode

from roost_common.contracts.base import REGISTRY, Message
from roost_common.contracts.desktop import CreateDesktop, DesktopView, EnsureDesktop, Power
from roost_common.contracts.disk import EnsureDisk
from roost_common.contracts.migration import CancelMigration, MigrateDesktop
from roost_common.contracts.spec import DesktopSpec, OsFamily
from roost_common.contracts.template import TemplateCreated
from roost_common.db import Database
from roost_common.outbox import UnitOfWork
from roost_common.testing.bus import delivery
from roost_common.testing.clock import FakeClock
from roost_inventory.handlers import Handlers
from roost_inventory.model import Base, Desktop, Host
from roost_inventory.reconciler import Reconciler
from roost_inventory.settings import Settings

M = TypeVar("M", bound=Message)
OUTBOX = Base.metadata.tables["outbox"]


@dataclass
class Site:
    """One copy of inventory, two services it talks to, and everything that was said."""

    database: Database
    unit: UnitOfWork
    clock: FakeClock
    handlers: Handlers
    reconciler: Reconciler
    settings: Settings
    nodes: dict[str, FakeNode] = field(default_factory=dict)
    imaging: FakeImaging = field(default_factory=FakeImaging)
    said: list[tuple[Message, str | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.movers = Movers(self.nodes)

    # --- driving ------------------------------------------------------------------------------

    async def tell(
        self, message: Message, *, message_id: UUID | None = None, redelivered: bool = False
    ) -> None:
        """Hand one message to inventory; its envelope's time is the site's."""
        one = delivery(message, message_id=message_id)
        envelope = one.envelope.model_copy(update={"time": self.clock.now()})
        await self.handlers.handle(
            one.model_copy(update={"envelope": envelope, "redelivered": redelivered})
        )

    async def reconcile(self) -> None:
        """Let the loop do all that is due now."""
        while await self.reconciler.step():
            pass

    async def add_node(self, name: str, **facts: Any) -> FakeNode:
        """A node that has reported itself, and is approved when its name begins with n."""
        node = self.nodes[name] = FakeNode(name, self.clock, **facts)
        await self.tell(node.report())
        return node

    async def template(self, version: int = 1, os: OsFamily = OsFamily.LINUX) -> None:
        """Imaging says that this version of the template is there."""
        await self.tell(
            TemplateCreated(
                template_id=TEMPLATE.id,
                template_name=TEMPLATE.name,
                version=version,
                os=os,
                virtual_bytes=1,
                used_bytes=1,
            )
        )

    async def create(
        self, number: int = 1, *, spec: DesktopSpec = SMALL, power: Power = Power.ON, **facts: Any
    ) -> UUID:
        """Order a desktop; its id is made of its number."""
        desktop = UUID(int=number)
        await self.tell(
            CreateDesktop(
                desktop_id=desktop,
                desktop_name=facts.pop("name", f"d{number}"),
                template=TEMPLATE,
                spec=spec,
                power=power,
                **facts,
            )
        )
        return desktop

    async def settle(self, rounds: int = 30) -> None:
        """Let everybody act until nobody has anything to say."""
        for _ in range(rounds):
            await self.reconcile()
            spoken = await self.collect()
            answers = [answer for message, node in spoken for answer in self.answer(message, node)]
            for answer in answers:
                await self.tell(answer)
            if not spoken:
                return
        raise AssertionError("they talk for ever")

    def answer(self, message: Message, node: str | None) -> list[Message]:
        """What a node or imaging says to it."""
        if isinstance(message, MigrateDesktop | CancelMigration) and node in self.nodes:
            return self.movers.take(message, node)
        if isinstance(message, EnsureDesktop) and node in self.nodes and self.movers.moves:
            return self.movers.take(message, node)
        if isinstance(message, EnsureDesktop) and node in self.nodes:
            seen = self.nodes[node].take(message)
            return [] if seen is None else [seen]
        if isinstance(message, EnsureDisk):
            answer = self.imaging.take(message)
            return [] if answer is None else [answer]
        return []

    async def arrive(self, desktop: UUID) -> None:
        """A desktop that is being moved has arrived; both nodes say so."""
        for messages in self.movers.finish(desktop).values():
            for message in messages:
                await self.tell(message)
        await self.settle()

    async def report_all(self, *names: str) -> None:
        """These nodes report, or all; and what is due is done."""
        for name in names or tuple(self.nodes):
            await self.tell(self.nodes[name].report())
        await self.settle()

    async def pass_time(self, seconds: float) -> None:
        """Move the clock, and have what is due done."""
        self.clock.advance(seconds)
        await self.settle()

    # --- looking ------------------------------------------------------------------------------

    async def collect(self) -> list[tuple[Message, str | None]]:
        """What inventory has said since the last time, in order."""
        async with self.database.engine.begin() as connection:
            rows = (
                await connection.execute(
                    sa.delete(OUTBOX).returning(
                        OUTBOX.c.id, OUTBOX.c.routing_key, OUTBOX.c.body, OUTBOX.c.envelope
                    )
                )
            ).all()
        spoken: list[tuple[Message, str | None]] = []
        for row in sorted(rows, key=lambda row: int(row.id)):
            kind = REGISTRY[row.envelope["type"]]
            node = row.routing_key.removeprefix(kind.name).lstrip(".") or None
            spoken.append((kind.model_validate(json.loads(row.body)), node))
        self.said += spoken
        return spoken

    async def spoken(self, kind: type[M]) -> list[M]:
        """Everything of one class, up to now."""
        await self.collect()
        return [message for message, _ in self.said if isinstance(message, kind)]

    async def names_said(self, desktop: UUID) -> list[str]:
        """The events about a desktop, by name, in order."""
        await self.collect()
        return [
            message.name.split(".")[1]
            for message, _ in self.said
            if isinstance(getattr(message, "desktop", None), DesktopView)
            and message.subject == str(desktop)
        ]

    async def row(self, desktop: UUID) -> Desktop:
        """A desktop's row."""
        async with self.database.sessions() as session:
            found = await session.get(Desktop, desktop)
            assert found is not None
            return found

    async def host(self, name: str) -> Host:
        """A host's row."""
        async with self.database.sessions() as session:
            found = await session.scalar(sa.select(Host).where(Host.name == name))
            assert found is not None
            return found

    async def rows(self, table: str) -> list[dict[str, Any]]:
        """A whole table but for what differs in each run."""
        async with self.database.engine.connect() as connection:
            found = await connection.execute(sa.select(Base.metadata.tables[table]))
            return [dict(row._mapping) for row in found.all()]
