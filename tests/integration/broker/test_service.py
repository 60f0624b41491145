"""Broker as a process: migrations, readiness, a clean stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from alembic.util import CommandError
from tests.polling import eventually

from roost_broker.bootstrap import build
from roost_broker.migrations import MIGRATIONS
from roost_broker.settings import Settings
from roost_common.service import running

pytestmark = pytest.mark.integration


async def test_models_and_migrations_agree(database_url: str) -> None:
    await MIGRATIONS.check(database_url)


async def test_a_difference_would_be_noticed(database_url: str, site: Any) -> None:
    import sqlalchemy as sa

    async with site.broker.unit_of_work() as transaction:
        await transaction.session.execute(sa.text("alter table users add column surprise text"))
    with pytest.raises(CommandError):
        await MIGRATIONS.check(database_url)


async def test_ready_only_with_its_servers(site: Any) -> None:
    assert (await site.http.get("/healthz")).status_code == 200
    assert (await site.http.get("/readyz")).json() == {"status": "ready", "failed": {}}
    text = (await site.http.get("/metrics")).text
    assert "roost_broker_launches_total" in text


async def test_the_published_interface(site: Any) -> None:
    paths = (await site.http.get("/openapi.json")).json()["paths"]
    assert {
        "/api/v1/auth/token",
        "/api/v1/auth/me",
        "/api/v1/auth/jwks",
        "/api/v1/me/desktops",
        "/api/v1/launch",
        "/api/v1/launch/{launch_id}",
        "/api/v1/sessions",
        "/api/v1/sessions/{session_id}",
        "/api/v1/pools",
        "/api/v1/pools/{reference}",
        "/api/v1/pools/{reference}/entitlements",
        "/api/v1/users",
        "/api/v1/groups",
    } <= set(paths)


async def test_over_a_socket_and_out_of_the_way_on_request(
    make_settings: Callable[..., Settings], tmp_path: Any
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = make_settings()
    environment = {
        "PATH": os.environ["PATH"],
        "ROOST_BROKER_AMQP_URL": settings.amqp_url.get_secret_value(),
        "ROOST_BROKER_DATABASE_URL": settings.database_url.get_secret_value(),
        "ROOST_BROKER_LISTEN": f"127.0.0.1:{port}",
        "ROOST_BROKER_SIGNING_KEY_FILE": str(settings.signing_key_file),
        "ROOST_BROKER_ADMIN_PASSWORD_FILE": str(settings.admin_password_file),
    }
    log = (tmp_path / "broker.log").open("w+b")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "roost_broker", env=environment, stderr=log, stdout=log
    )
    try:
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:

            async def ready() -> bool:
                assert process.returncode is None, (tmp_path / "broker.log").read_text()
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(ready, "it is ready", 90)
            form = {"username": "admin", "password": "correct horse battery"}
            answer = await client.post("/api/v1/auth/token", data=form)
            assert answer.status_code == 200, answer.text
    finally:
        process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), 40)
        log.close()
    assert code == 0
    text = (tmp_path / "broker.log").read_text()
    assert "correct horse" not in text
    assert answer.json()["access_token"] not in text


async def test_stopping_lets_those_who_wait_go(
    make_settings: Callable[..., Settings], inventory: Any
) -> None:
    """Whoever waits for a desktop learns the place at once when the process is to stop."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = make_settings(listen=f"127.0.0.1:{port}")
    inventory.holding = True
    headers: dict[str, str] = {}
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}/api/v1", trust_env=False, timeout=60
    ) as client:
        async with build(settings) as parts, running(parts, settings):
            form = {"username": "admin", "password": "correct horse battery"}

            async def token() -> bool:
                try:
                    answer = await client.post("/auth/token", data=form)
                except httpx.TransportError:
                    return False
                headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
                return True

            await eventually(token, "the administrator logs on")
            await parts.bus.wait_connected()
            await inventory.template()

            async def pool() -> bool:
                body = {"name": "win", "template": "debian"}
                answer = await client.post("/pools", json=body, headers=headers)
                return answer.status_code == 201

            await eventually(pool, "the pool is made")
            await client.put("/pools/win/entitlements", json=[{"user": "admin"}], headers=headers)
            waiting = asyncio.create_task(
                client.post(
                    "/launch", headers={**headers, "Prefer": "wait=50"}, json={"pool": "win"}
                )
            )
            room = parts.app.state.broker.waiting_room  # type: ignore[attr-defined]

            await eventually(lambda: room.occupied, "somebody waits")
            started = asyncio.get_running_loop().time()
        answer = await waiting
    assert answer.status_code == 202
    assert asyncio.get_running_loop().time() - started < 15
