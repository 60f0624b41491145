"""Jobs: progress, cancelling, and every way in which a worker can go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from tests.polling import eventually

from roost_common.contracts.template import JobFinished, TemplateCreated
from roost_imaging.repository import Jobs
from roost_imaging.states import JobState

pytestmark = pytest.mark.integration
World = Any
MIB = 1 << 20
SLOW = 4 * MIB
"""Bytes per second of a conversion that is to be caught in the middle."""


def large(world: World) -> None:
    """Content that takes ten seconds at the slow rate."""
    world.image("large.qcow2", mib=64, data_mib=40)


async def under_way(world: World, job_id: str) -> dict[str, Any]:
    """The job once its conversion writes."""

    async def writes() -> dict[str, Any] | None:
        job: dict[str, Any] = (await world.http.get(f"/api/v1/jobs/{job_id}")).json()
        assert job["state"] in ("queued", "running"), job
        return job if job["percent"] > 10 and world.parts() else None

    return await eventually(writes, "the conversion writes", 30)


def makers(job_id: str) -> list[int]:
    """Processes that work on a job."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and job_id.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


async def test_a_running_job_is_cancelled_midway(start: Callable[..., Any]) -> None:
    async with start(convert_bytes_per_s=SLOW) as world:
        await world.make_storage()
        large(world)
        accepted = await world.start_import("a", "large.qcow2")
        await under_way(world, accepted["job_id"])
        assert makers(accepted["job_id"])
        answer = await world.http.post(f"/api/v1/jobs/{accepted['job_id']}/cancel")
        assert answer.status_code == 202
        job = await world.job(accepted["job_id"])
        assert (job["state"], job["problem"]) == ("cancelled", None)
        assert 10 < job["percent"] < 100
        assert makers(accepted["job_id"]) == []
        assert world.files() == set()
        assert (await world.http.get("/api/v1/templates/a")).status_code == 404
        assert (await world.hear(JobFinished))[0].state == "cancelled"
        again = await world.http.delete(f"/api/v1/jobs/{accepted['job_id']}")
        assert (again.status_code, again.json()["code"]) == (409, "job.finished")
        assert world.of(TemplateCreated) == []


async def test_a_waiting_job_is_cancelled_at_once(start: Callable[..., Any]) -> None:
    async with start(convert_bytes_per_s=SLOW) as world:
        await world.make_storage()
        large(world)
        first = await world.start_import("a", "large.qcow2")
        await under_way(world, first["job_id"])
        second = await world.start_import("b", "large.qcow2")
        answer = await world.http.delete(f"/api/v1/jobs/{second['job_id']}")
        assert answer.json()["state"] == "cancelled"
        assert (await world.http.get("/api/v1/templates/b")).status_code == 404
        busy = await world.http.delete("/api/v1/templates/a")
        assert (busy.status_code, busy.json()["code"]) == (409, "template.busy")
        await world.http.delete(f"/api/v1/jobs/{first['job_id']}")
        await world.job(first["job_id"])


async def test_what_a_job_says_belongs_to_the_request_that_made_it(
    start: Callable[..., Any],
) -> None:
    async with start(convert_bytes_per_s=SLOW) as world:
        await world.make_storage()
        world.image("small.qcow2")
        world.http.headers["X-Request-Id"] = "request-of-the-first"
        done = await world.start_import("a", "small.qcow2")
        await world.job(done["job_id"])
        large(world)
        world.http.headers["X-Request-Id"] = "request-of-the-second"
        running = await world.start_import("b", "large.qcow2")
        await under_way(world, running["job_id"])
        world.http.headers["X-Request-Id"] = "request-of-the-third"
        waiting = await world.start_import("c", "large.qcow2")
        world.http.headers["X-Request-Id"] = "somebody-cancels"
        await world.http.delete(f"/api/v1/jobs/{waiting['job_id']}")
        await world.http.delete(f"/api/v1/jobs/{running['job_id']}")
        await world.hear(JobFinished, 3)
    said = {
        (type(one.message).__name__, one.envelope.correlation_id)
        for one in world.deliveries
        if isinstance(one.message, (JobFinished, TemplateCreated))
    }
    assert said == {
        ("TemplateCreated", "request-of-the-first"),
        ("JobFinished", "request-of-the-first"),
        ("JobFinished", "request-of-the-second"),
        ("JobFinished", "request-of-the-third"),
    }


async def test_a_source_changed_meanwhile_is_not_imported(start: Callable[..., Any]) -> None:
    async with start(convert_bytes_per_s=SLOW) as world:
        await world.make_storage()
        large(world)
        accepted = await world.start_import("a", "large.qcow2")
        await under_way(world, accepted["job_id"])
        _touch_content(world.imports / "large.qcow2")
        job = await world.job(accepted["job_id"])
        assert (job["state"], job["problem"]["code"]) == ("failed", "import.source-changed")
        assert world.files() == set()


async def test_an_image_in_use_is_not_imported(world: World) -> None:
    await world.make_storage()
    world.image("a.qcow2")
    writer = _open_for_writing(world.imports / "a.qcow2")
    try:
        answer = await world.http.post(
            "/api/v1/templates", json={"name": "a", "os": "linux", "source": {"path": "a.qcow2"}}
        )
        assert (answer.status_code, answer.json()["code"]) == (409, "image.in-use")
    finally:
        writer.communicate(b"quit\n")


async def test_a_worker_that_lost_its_job_touches_nothing(start: Callable[..., Any]) -> None:
    """Its lease ran out while it was away, and another copy has taken the job."""
    async with start(convert_bytes_per_s=SLOW) as world:
        await world.make_storage()
        large(world)
        accepted = await world.start_import("a", "large.qcow2")
        await under_way(world, accepted["job_id"])
        await _take_from_its_worker(world, "1 hour")
        await eventually_gone(accepted["job_id"])
        # The part is the new holder's to remove; nothing is said, nothing is deleted.
        assert len(world.parts()) == 1
        job = (await world.http.get(f"/api/v1/jobs/{accepted['job_id']}")).json()
        assert job["state"] == "running"
        assert (await world.http.get("/api/v1/templates/a")).json()["state"] == "importing"
        assert world.of(JobFinished) == []
        # That other copy dies too: the first one takes the job back, and is asked to stop.
        await world.http.delete(f"/api/v1/jobs/{accepted['job_id']}")
        await _take_from_its_worker(world, "-1 second")
        assert (await world.job(accepted["job_id"]))["state"] == "cancelled"
        assert world.files() == set()


async def _take_from_its_worker(world: World, lease: str) -> None:
    async with world.unit() as transaction:
        await transaction.session.execute(
            sa.text(
                "update jobs set worker = gen_random_uuid(),"
                " lease_until = clock_timestamp() + cast(:lease as text)::interval"
            ),
            {"lease": lease},
        )


async def eventually_gone(job_id: str) -> None:
    """Wait until no process works on a job."""
    # The whole of /proc is read for it.
    await eventually(lambda: not makers(job_id), "nobody works on the job any more", pause=0.1)


# --- a process of its own -----------------------------------------------------------------------


@asynccontextmanager
async def process(
    settings: Any, jwks_url: str, log: Path
) -> AsyncIterator[subprocess.Popen[bytes]]:
    """``python -m roost_imaging`` with these settings; killed at the end if it still runs."""
    environment = {
        "PATH": os.environ["PATH"],
        **{
            f"ROOST_IMAGING_{name.upper()}": (
                value.get_secret_value() if hasattr(value, "get_secret_value") else str(value)
            )
            for name, value in settings
        },
        "ROOST_IMAGING_JWKS_URL": jwks_url,
    }
    running = _spawn(environment, log)
    try:
        await _answers(settings.listen, running, log)
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        await asyncio.to_thread(running.wait)


async def _answers(listen: str, running: subprocess.Popen[bytes], log: Path) -> None:
    async with httpx.AsyncClient() as client:

        async def ready() -> bool:
            assert running.poll() is None, _text(log)
            with contextlib.suppress(httpx.TransportError):
                return (await client.get(f"http://{listen}/readyz")).status_code == 200
            return False

        await eventually(ready, lambda: f"the service is ready: {_text(log)}", 60)


async def test_a_killed_service_takes_its_job_up_again(
    outside: Callable[..., Any], jwks_url: str, tmp_path: Path
) -> None:
    async with outside(convert_bytes_per_s=SLOW) as world:
        async with process(world.settings, jwks_url, tmp_path / "first.log") as first:
            await world.make_storage()
            large(world)
            accepted = await world.start_import("a", "large.qcow2")
            await under_way(world, accepted["job_id"])
            first.send_signal(signal.SIGKILL)
            await asyncio.to_thread(first.wait)
            # Its qemu-img has gone with it, its half of an image has not.
            await eventually_gone(accepted["job_id"])
            assert len(world.parts()) == 1
        fast = world.settings.model_copy(update={"convert_bytes_per_s": 0})
        async with process(fast, jwks_url, tmp_path / "second.log"):
            job = await world.job(accepted["job_id"], timeout_s=60)
            assert (job["state"], job["attempt"]) == ("done", 2), job["problem"]
            template = (await world.http.get("/api/v1/templates/a")).json()
            assert template["state"] == "ready"
            file = f"main/templates/{template['id']}/v1.qcow2"
            assert world.files() == {file}
            world.qemu_img("compare", "-F", "qcow2", "large.qcow2", world.storage / file)
            assert len(await world.hear(TemplateCreated)) == 1


async def test_a_job_that_kills_its_workers_fails_in_the_end(
    outside: Callable[..., Any], jwks_url: str, tmp_path: Path
) -> None:
    async with outside(convert_bytes_per_s=SLOW, job_attempts=1) as world:
        async with process(world.settings, jwks_url, tmp_path / "first.log") as first:
            await world.make_storage()
            large(world)
            accepted = await world.start_import("a", "large.qcow2")
            await under_way(world, accepted["job_id"])
            first.send_signal(signal.SIGKILL)
            await asyncio.to_thread(first.wait)
        async with process(world.settings, jwks_url, tmp_path / "second.log"):
            job = await world.job(accepted["job_id"], timeout_s=60)
            assert (job["state"], job["problem"]["code"]) == ("failed", "job.attempts-exhausted")
            assert world.files() == set()
            assert (await world.http.get("/api/v1/templates")).json()["items"] == []


async def test_a_stopped_service_gives_its_job_back(
    outside: Callable[..., Any], jwks_url: str, tmp_path: Path
) -> None:
    async with outside(convert_bytes_per_s=SLOW, job_attempts=1) as world:
        async with process(world.settings, jwks_url, tmp_path / "first.log") as first:
            await world.make_storage()
            large(world)
            accepted = await world.start_import("a", "large.qcow2")
            await under_way(world, accepted["job_id"])
            first.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(first.wait) == 0, _text(tmp_path / "first.log")
        assert makers(accepted["job_id"]) == []
        assert world.files() == set()
        async with world.unit() as transaction:
            job = await Jobs(transaction.session).get(accepted["job_id"])
            assert (job.state, job.attempt) == (JobState.QUEUED, 0)
        fast = world.settings.model_copy(update={"convert_bytes_per_s": 0})
        async with process(fast, jwks_url, tmp_path / "second.log"):
            assert (await world.job(accepted["job_id"], timeout_s=60))["state"] == "done"


def _touch_content(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(last)


def _open_for_writing(image: Path) -> subprocess.Popen[bytes]:
    """A program that holds an image open as a running guest does."""
    writer = subprocess.Popen(
        ["qemu-io", "-f", "qcow2", image], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    writer.stdin.write(b"read 0 512\n")
    writer.stdin.flush()
    writer.stdout.readline()  # it has answered: it has the lock
    return writer


def _spawn(environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "roost_imaging"], env=environment, stdout=out, stderr=out
        )


def _text(log: Path) -> str:
    return log.read_text()
