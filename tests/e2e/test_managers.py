"""Managers die under continuous work: log-ons go on, and running desktops notice nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import pytest
from tests.e2e.site import (
    Api,
    Lab,
    NewPool,
    NewScreen,
    NewUser,
    launch_until_ready,
    wait_until,
)
from tests.e2e.stand import WHOLE_S, Stand

SETTLED_S = 60.0
NEWCOMERS = 4


@dataclass
class Work:
    """Log-ons one after the other, for as long as the test lasts."""

    url: str
    user: str
    password: str
    done: list[float] = field(default_factory=list)
    """When one had succeeded."""
    refused: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _marked: int = 0

    def run(self) -> None:
        """At most some thousands: each takes a password's hash."""
        form = {"username": self.user, "password": self.password}
        with httpx.Client(base_url=self.url, timeout=10, trust_env=False) as http:
            # The load's pace: some ten log-ons a second at most, until it is told to stop.
            while not self._stop.wait(0.1):
                try:
                    answer = http.post("/api/v1/auth/token", data=form)
                except httpx.TransportError as error:
                    self.refused.append(type(error).__name__)
                    continue
                if answer.status_code == 200:
                    self.done.append(time.monotonic())
                else:
                    self.refused.append(str(answer.status_code))

    def more(self, count: int) -> bool:
        """Whether so many more have succeeded since `mark`."""
        return len(self.done) >= self._marked + count

    def mark(self) -> None:
        """Count from here."""
        self._marked = len(self.done)

    def stop(self) -> None:
        """After the present one."""
        self._stop.set()


@contextmanager
def working(lab: Lab) -> Iterator[Work]:
    """Continuous log-ons."""
    variables = lab.variables
    work = Work(lab.url, variables["ROOST_DEMO_USER"], variables["ROOST_DEMO_PASSWORD"])
    thread = threading.Thread(target=work.run)
    thread.start()
    try:
        work.mark()
        wait_until(lambda: work.more(3), "people log on", 30)
        yield work
    finally:
        work.stop()
        thread.join(timeout=30)


@pytest.mark.parametrize("machine", [1, pytest.param(2, marks=pytest.mark.chaos)])
def test_a_machine_with_a_copy_of_everything_dies(
    *,
    lab: Lab,
    admin: Api,
    new_user: NewUser,
    new_pool: NewPool,
    new_screen: NewScreen,
    machine: int,
) -> None:
    assert lab.copies >= 2
    ann, bob = new_user(), new_user()
    with new_pool([ann, bob], max=3, spare=1) as pool:
        screen = new_screen()
        viewer = screen.view(ann.vv(pool))
        screen.shows("ROOST DESKTOP")
        before = [one for one in ann.items("/sessions") if one["state"] != "ended"]
        incidents = len(admin.items("/ha/incidents"))
        with working(lab) as work:
            lab.machine(machine, "kill")
            try:
                work.mark()
                wait_until(lambda: work.more(5), "people go on logging on", 30)
                ready_again = bob.launch(pool)
                screen.mark("unmoved")
                assert viewer.poll() is None, "who looks at a screen notices nothing"
                after = [one for one in ann.items("/sessions") if one["state"] != "ended"]
                assert [one["id"] for one in after] == [one["id"] for one in before]
                leader = wait_until(
                    lambda: admin.get("/ha/leader")["holder"], "somebody watches hosts", SETTLED_S
                )
                assert leader
            finally:
                lab.machine(machine, "start")
            work.mark()
            wait_until(lambda: work.more(5), "and with the machine back, too", 30)
        assert len({ready_again["desktop"]["id"], before[0]["desktop"]["id"]}) == 2
        assert len(admin.items("/ha/incidents")) == incidents, "no host was called dead for it"


@pytest.mark.chaos
def test_a_host_fails_while_half_of_the_managers_are_dead(
    lab: Lab, admin: Api, new_user: NewUser, new_pool: NewPool, new_screen: NewScreen
) -> None:
    """People log on and launch meanwhile, desktops are made, and somebody looks at a screen."""
    ann, bob, *newcomers = users = [new_user() for _ in range(2 + NEWCOMERS)]
    with new_pool(users, max=len(users), spare=0, pending_timeout_s=3600) as pool:
        stand = Stand(lab, admin, pool, users)
        first, looked_at = ann.launch(pool), bob.launch(pool)
        hosts = {key: str(one["host"]) for key, one in stand.desktops().items()}
        fails = hosts[first["desktop"]["id"]]
        assert hosts[looked_at["desktop"]["id"]] != fails, "desktops are spread by load"
        screen = new_screen()
        viewer = screen.view(bob.vv(pool))
        screen.shows("ROOST DESKTOP")
        known = len(stand.incidents(fails))
        with working(lab) as work, ThreadPoolExecutor(NEWCOMERS) as launchers:
            lab.machine(1, "kill")
            try:
                lab.node(fails, "kill")
                # Nobody has noticed it yet: some may be given desktops on that host.
                launches = [launchers.submit(launch_until_ready, user, pool) for user in newcomers]
                work.mark()
                wait_until(lambda: work.more(5), "people go on logging on", 30)
                stand.incident(fails, known, resolution="recovered")
                again = ann.launch(pool)
                assert again["desktop"] == first["desktop"]
                assert again["session_id"] == first["session_id"]
                served = [first, looked_at, *(launch.result(timeout=300) for launch in launches)]
                screen.mark("unmoved")
                assert viewer.poll() is None, "who looks at a screen notices nothing"
            finally:
                lab.machine(1, "start")
                lab.node(fails, "start")
        wait_until(stand.is_whole, "everything is back, and every desktop runs once", WHOLE_S)
        assert len({one["desktop"]["id"] for one in served}) == len(users), "no desktop twice"
        assert len(stand.desktops()) == len(users), "none made twice"
        assert len(stand.incidents(fails)) == known + 1
