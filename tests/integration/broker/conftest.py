"""A whole broker on real servers, with an inventory and a node that the test commands."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from argon2 import PasswordHasher
from tests.polling import eventually

from roost_broker import passwords
from roost_broker.bootstrap import build
from roost_broker.migrations import MIGRATIONS
from roost_broker.settings import Settings
from roost_common import topology
from roost_common.bus import Bus, QuerySubscription, Subscription
from roost_common.contracts.base import Body, Delivery, Event, Message, Problem, Query
from roost_common.contracts.desktop import (
    CreateDesktop,
    DeleteDesktop,
    DesktopChanged,
    DesktopCreated,
    DesktopCreateRefused,
    DesktopDeleted,
    DesktopNotFound,
    DesktopStarted,
    DesktopStartRefused,
    DesktopState,
    DesktopStopped,
    DesktopView,
    DomainObservation,
    DomainObserved,
    DomainState,
    Power,
    ReimageDesktop,
    SetDesktopPower,
    SpiceAddress,
    SpiceClient,
    StopReason,
)
from roost_common.contracts.display import CloseDisplay, DisplayTicket, Done, OpenDisplay
from roost_common.contracts.host import (
    GuestSize,
    HostCapabilities,
    HostReport,
    HostStats,
    PlacementLimitsChanged,
)
from roost_common.contracts.spec import OsFamily
from roost_common.contracts.template import TemplateCreated
from roost_common.errors import Conflict
from roost_common.security import new_signing_key
from roost_common.topology import COMMANDS, EVENTS, Durability, QueueSpec

ADMIN_PASSWORD = "correct horse battery"
USER_PASSWORD = "staple staple"
NODE = "n1"
TEMPLATE = UUID("11111111-1111-1111-1111-111111111111")


class Inventory:
    """Inventory and a node in one: does what it is told, at once, unless the test holds it."""

    def __init__(self, url: str) -> None:
        self.bus = Bus(url, "inventory")
        self.node_bus = Bus(url, "host-agent")
        self.agent_id = uuid4()
        """This run of the node's agent; another one is a new start."""
        self.views: dict[UUID, DesktopView] = {}
        self.commands: list[Message] = []
        self.said: list[Message] = []
        self.correlations: dict[str, str] = {}
        """Of the last message of each name that broker sent."""
        self.opened: list[OpenDisplay] = []
        self.closed: list[CloseDisplay] = []
        self.holding = False
        """Take commands and do nothing."""
        self.deaf = False
        """Commands are lost."""
        self.problem: Problem | None = None
        """What keeps desktops from starting."""
        self.refusal: Problem | None = None
        """What keeps desktops from being made."""
        self.not_running: set[UUID] = set()
        """Runs that the node does not know."""
        everything = QueueSpec(
            "test.everything",
            Durability.OWN_SAMPLES,
            ((EVENTS, "session.*.v1"), (EVENTS, "pool.*.v1")),
        )
        commands = QueueSpec(
            "roost.inventory",
            Durability.WORK,
            tuple(
                (COMMANDS, f"desktop.{verb}.v1")
                for verb in ("create", "set-power", "reimage", "delete")
            ),
        )
        self.bus.subscribe(Subscription(commands, self._command, prefetch=1))
        self.bus.subscribe(Subscription(everything, self._heard, prefetch=1))
        self.node_bus.subscribe(QuerySubscription(topology.query_queue(NODE), self._asked))

    # --- what the test says -------------------------------------------------------------------

    async def say(self, event: Event) -> None:
        await self.bus.publish(event)

    async def change(self, desktop_id: UUID, **fields: Any) -> DesktopView:
        """The desktop is different now, and inventory says so with the fitting event."""
        old = self.views[desktop_id]
        view = old.model_copy(update={"revision": old.revision + 1, **fields})
        self.views[desktop_id] = view
        kind: type[Any] = DesktopChanged
        extra: dict[str, Any] = {}
        if view.state is DesktopState.DELETED:
            kind = DesktopDeleted
        elif view.boot_id is not None and view.boot_id != old.boot_id:
            kind = DesktopStarted
        elif view.boot_id is None and old.boot_id is not None:
            kind, extra = DesktopStopped, {"reason": StopReason.REQUESTED}
        elif view.problem is not None and view.problem != old.problem:
            kind = DesktopStartRefused
        await self.bus.publish(kind(desktop=view, **extra))
        return view

    async def run(self, desktop_id: UUID) -> None:
        """It starts, in a new run."""
        boot_id = uuid4()
        await self.change(
            desktop_id,
            state=DesktopState.RUNNING,
            host=NODE,
            boot_id=boot_id,
            lineage=boot_id,
            spice=SpiceAddress(host="10.9.8.7", port=5900, tls_port=5901),
            problem=None,
        )

    async def trouble(self, desktop_id: UUID, problem: Problem) -> None:
        """It cannot start."""
        await self.change(desktop_id, state=DesktopState.STARTING, problem=problem)

    async def resume(self) -> None:
        """Do what was held back or failed."""
        self.holding, self.problem = False, None
        for key, view in list(self.views.items()):
            if view.state is not DesktopState.RUNNING:
                await self.run(key)

    async def template(self, version: int = 1, name: str = "debian") -> None:
        await self.say(
            TemplateCreated(
                template_id=TEMPLATE,
                template_name=name,
                version=version,
                os=OsFamily.LINUX,
                virtual_bytes=1,
                used_bytes=1,
            )
        )

    def observation(
        self, boot_id: UUID, *, connected: bool, at: datetime | None = None
    ) -> DomainObservation:
        """What the node sees of the desktop in this run."""
        clients = (SpiceClient(connection_id=1, address="192.0.2.7"),) if connected else ()
        desktop_id = next((k for k, v in self.views.items() if v.boot_id == boot_id), uuid4())
        return DomainObservation(
            desktop_id=desktop_id,
            generation=1,
            state=DomainState.RUNNING,
            observed_at=at or datetime.now(UTC),
            boot_id=boot_id,
            clients=clients,
        )

    async def twice(self, site: Any, messages: list[Message], seed: int) -> None:
        """Publish each twice with one id, in an order made from ``seed``; wait until handled."""
        pairs = [(message, self.bus.envelope(message)) for message in messages] * 2
        random.Random(seed).shuffle(pairs)
        for message, envelope in pairs:
            await self.bus.publish(message, envelope)
        wanted = ", ".join(f"'{envelope.id}'" for _, envelope in pairs)

        async def handled() -> bool:
            found = await site.sql(f"select count(*) from inbox where message_id in ({wanted})")
            return bool(found == len(messages))

        await eventually(handled, "all of them are handled")

    async def seen(self, boot_id: UUID, *, connected: bool, at: datetime | None = None) -> None:
        """The node's event."""
        domain = self.observation(boot_id, connected=connected, at=at)
        await self.say(DomainObserved(node=NODE, agent_id=self.agent_id, domain=domain))

    async def report(
        self, *domains: DomainObservation, at: datetime | None = None, **fields: Any
    ) -> HostReport:
        """The node's report."""
        report = HostReport(
            node=NODE,
            agent_id=fields.pop("agent_id", self.agent_id),
            address="10.9.8.7",
            sent_at=at or datetime.now(UTC),
            capabilities=HostCapabilities(cpus=4, memory_mib=8192, max_vcpus=16, virt_type="qemu"),
            stats=HostStats(),
            domains=domains,
            **fields,
        )
        await self.node_bus.publish(report)
        return report

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for message in [*self.said, *self.commands] if isinstance(message, kind)]

    # --- what it is told ----------------------------------------------------------------------

    async def _heard(self, delivery: Delivery) -> None:
        self.said.append(delivery.message)
        self._note(delivery)

    def _note(self, delivery: Delivery) -> None:
        self.correlations[delivery.message.name] = delivery.envelope.correlation_id

    async def _command(self, delivery: Delivery) -> None:
        message = delivery.message
        self.commands.append(message)
        self._note(delivery)
        if self.deaf:
            return
        if isinstance(message, CreateDesktop):
            await self._create(message)
            return
        view = self.views.get(getattr(message, "desktop_id"))  # noqa: B009 - all four have it
        if view is None:
            await self.say(DesktopNotFound(desktop_id=UUID(message.subject)))
            return
        if isinstance(message, DeleteDesktop):
            await self.change(view.id, state=DesktopState.DELETED, boot_id=None, spice=None)
            del self.views[view.id]
        elif isinstance(message, ReimageDesktop):
            if message.disk_generation <= view.disk_generation:
                return
            await self.change(
                view.id,
                state=DesktopState.PROVISIONING,
                disk_generation=message.disk_generation,
                template=message.template or view.template,
                boot_id=None,
                spice=None,
            )
            await self._start(view.id)
        elif isinstance(message, SetDesktopPower):
            await self._start(view.id)

    async def _create(self, message: CreateDesktop) -> None:
        if message.desktop_id in self.views:
            return
        if self.refusal is not None:
            await self.say(
                DesktopCreateRefused(desktop_id=message.desktop_id, problem=self.refusal)
            )
            return
        view = DesktopView(
            id=message.desktop_id,
            name=message.desktop_name,
            revision=1,
            generation=1,
            state=DesktopState.PROVISIONING,
            power=Power.ON,
            pool_id=message.pool_id,
            template=message.template,
            spec=message.spec,
            disk_generation=1,
        )
        self.views[view.id] = view
        await self.say(DesktopCreated(desktop=view))
        await self._start(view.id)

    async def _start(self, desktop_id: UUID) -> None:
        if self.problem is not None:
            await self.trouble(desktop_id, self.problem)
        elif not self.holding:
            await self.run(desktop_id)

    async def _asked(self, query: Query) -> Body:
        if isinstance(query, OpenDisplay):
            if query.boot_id in self.not_running:
                raise Conflict("desktop.not-running", "That run is over.")
            self.opened.append(query)
            return DisplayTicket(
                boot_id=query.boot_id,
                spice=SpiceAddress(host="10.9.8.7", port=5900, tls_port=5901),
                password=f"secret-{len(self.opened)}",
                valid_s=query.valid_s,
                ca="-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n",
                host_subject="CN=n1",
            )
        assert isinstance(query, CloseDisplay)
        self.closed.append(query)
        return Done()


class Site:
    """Everything, with the words that tests use."""

    def __init__(self, parts: Any, settings: Settings, inventory: Inventory) -> None:
        self.parts = parts
        self.settings = settings
        self.inventory = inventory
        self.broker = parts.app.state.broker
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(parts.app, raise_app_exceptions=True),
            base_url="http://broker",
            timeout=90,
        )
        self.admin: dict[str, str] = {}

    async def token(self, name: str, password: str = USER_PASSWORD) -> dict[str, str]:
        """An Authorization header."""
        answer = await self.http.post(
            "/api/v1/auth/token", data={"username": name, "password": password}
        )
        assert answer.status_code == 200, answer.text
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    async def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        """As the administrator, unless headers say otherwise."""
        more.setdefault("headers", self.admin)
        return await self.http.request(method, f"/api/v1{path}", **more)

    async def user(self, name: str, **more: Any) -> dict[str, str]:
        """A user and a token."""
        body = {"name": name, "password": USER_PASSWORD, **more}
        answer = await self.call("POST", "/users", json=body)
        assert answer.status_code == 201, answer.text
        return await self.token(name)

    async def template(self, version: int = 1) -> None:
        """Known to broker when this returns."""
        await self.inventory.template(version)

        async def known() -> bool:
            statement = f"select count(*) from template_versions where version = {version}"
            return bool(await self.sql(statement))

        await eventually(known, "the template is known")

    async def limits(self, revision: int, largest: tuple[GuestSize, ...] | None) -> None:
        """Placement's word, known to broker when this returns."""
        await self.inventory.say(PlacementLimitsChanged(revision=revision, largest=largest))

        async def known() -> bool:
            return bool(await self.sql("select revision from placement_limits") == revision)

        await eventually(known, "the limits are known")

    async def pool(self, name: str = "win", *, users: tuple[str, ...] = (), **more: Any) -> Any:
        """A pool of the template, and who may use it."""
        body = {"name": name, "template": "debian", "max": 3, "spare": 1, **more}
        answer = await self.call("POST", "/pools", json=body)
        assert answer.status_code == 201, answer.text
        if users:
            entries = [{"user": user} for user in users]
            put = await self.call("PUT", f"/pools/{name}/entitlements", json=entries)
            assert put.status_code == 200, put.text
        return answer.json()

    async def counts(self, name: str = "win") -> dict[str, int]:
        answer = await self.call("GET", f"/pools/{name}")
        assert answer.status_code == 200, answer.text
        counts: dict[str, int] = answer.json()["desktops"]
        return counts

    async def settled(self, name: str = "win", **wanted: int) -> None:
        """Until the pool's counts are these."""
        last: dict[str, int] = {}

        async def reached() -> bool:
            last.update(await self.counts(name))
            return all(last[key] == value for key, value in wanted.items())

        await eventually(reached, lambda: f"the pool has {wanted}, not {last}")

    async def launch(
        self, who: dict[str, str], *, wait: int | None = None, **body: Any
    ) -> httpx.Response:
        """The launcher's call."""
        headers = {**who, **({} if wait is None else {"Prefer": f"wait={wait}"})}
        return await self.http.post("/api/v1/launch", headers=headers, json=body)

    async def session(self, session_id: str) -> dict[str, Any]:
        answer = await self.call("GET", f"/sessions/{session_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def becomes(self, session_id: str, state: str) -> dict[str, Any]:
        """Until a session is in this state."""

        async def reached() -> dict[str, Any] | None:
            found = await self.session(session_id)
            return found if found["state"] == state else None

        return await eventually(reached, f"the session is {state}")

    async def sql(self, statement: str) -> Any:
        """One value of the database."""
        import sqlalchemy as sa

        async with self.broker.unit_of_work() as transaction:
            return await transaction.session.scalar(sa.text(statement))


@pytest.fixture
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that log on only to do something else: half a dozen hashes of 35 ms each."""
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_HASHER", cheap)


@pytest.fixture
async def database_url(new_database: Any) -> str:
    url: str = await new_database(MIGRATIONS)
    return url


@pytest.fixture
def make_settings(tmp_path: Path, database_url: str, amqp_url: str) -> Callable[..., Settings]:
    """Settings for this test's servers."""
    key, password = tmp_path / "key.pem", tmp_path / "admin"
    key.write_bytes(new_signing_key())
    password.write_text(ADMIN_PASSWORD + "\n")

    def make(**more: Any) -> Settings:
        values: dict[str, Any] = {
            "amqp_url": amqp_url,
            "database_url": database_url,
            "listen": "127.0.0.1:0",
            "signing_key_file": key,
            "admin_password_file": password,
            "shrink_after_s": 0,
            "pool_interval_s": 0.2,
            "display_deadline_s": 2.0,
        }
        return Settings(**(values | more))

    return make


@asynccontextmanager
async def _running(*things: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(thing()) for thing in things]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture
async def inventory(amqp_url: str) -> AsyncIterator[Inventory]:
    """Inventory and a node, listening."""
    made = Inventory(amqp_url)
    async with _running(made.bus.run, made.node_bus.run):
        await made.bus.wait_connected()
        await made.node_bus.wait_connected()
        yield made


@pytest.fixture
async def new_site(
    make_settings: Callable[..., Settings], inventory: Inventory
) -> AsyncIterator[Callable[..., Any]]:
    """Makes brokers; several share the database and the bus, as copies do."""
    stops: list[Any] = []

    async def make(**settings: Any) -> Site:
        wanted = make_settings(**settings)
        building = build(wanted)
        parts = await building.__aenter__()
        stops.append(lambda: building.__aexit__(None, None, None))
        running = _running(parts.bus.run, *parts.tasks.values())
        await running.__aenter__()
        stops.append(lambda: running.__aexit__(None, None, None))
        await parts.bus.wait_connected()
        site = Site(parts, wanted, inventory)
        stops.append(site.http.aclose)
        site.admin = await site.token("admin", ADMIN_PASSWORD)
        return site

    yield make
    for stop in reversed(stops):
        await stop()


@pytest.fixture
async def site(new_site: Callable[..., Any]) -> Any:
    """One broker."""
    return await new_site()


@pytest.fixture
async def ready_site(site: Any) -> Any:
    """A broker with a pool `win` of three at most, one spare, that `ann` and `bob` may use."""
    await site.template()
    await site.inventory.report()

    async def heard() -> bool:
        return bool(await site.sql("select count(*) from hosts"))

    await eventually(heard, "the node's first report is heard")
    site.ann = await site.user("ann")
    site.bob = await site.user("bob")
    await site.pool(users=("ann", "bob"))
    await site.settled(free=1)
    return site
