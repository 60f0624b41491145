"""How long nobody can log on when a machine with a copy of every service dies."""

from __future__ import annotations

import subprocess
import threading
from itertools import pairwise
from pathlib import Path
from time import monotonic, perf_counter
from typing import Final

import httpx
from tests.bench.launch import Lab
from tests.bench.report import Figure

ROOT = Path(__file__).parents[2]
AROUND_S: Final = 8.0
"""Watched before the machine dies and after: longer than what is wanted."""
PAUSE_S: Final = 0.05


def measure(lab: Lab) -> list[Figure]:
    """The longest time between two successful log-ons, with each machine killed in turn."""
    _run("up", "--copies", "2")
    figures = []
    for machine in ("1", "2"):
        gaps = _log_ons(lab, machine)
        name = f"log-on outage when machine {machine} dies"
        figures.append(Figure(name, "s", gaps[1], gaps[0], wanted="at most 5"))
    return figures


def _log_ons(lab: Lab, machine: str) -> tuple[float, float]:
    """The longest gap before the machine dies, and after."""
    done: list[float] = []
    stop = threading.Event()
    worker = threading.Thread(target=_work, args=(lab, done, stop))
    worker.start()
    try:
        threading.Event().wait(AROUND_S)
        killed = perf_counter()
        _run("machine", machine, "kill")
        threading.Event().wait(AROUND_S)
    finally:
        stop.set()
        worker.join()
        _run("machine", machine, "start")
        _ready(lab)
    before = [at for at in done if at < killed]
    after = [max(before, default=killed), *(at for at in done if at >= killed), perf_counter()]
    return _longest(before), _longest(after[:-1] if len(after) > 2 else after)


def _work(lab: Lab, done: list[float], stop: threading.Event) -> None:
    form = {
        "username": lab.variables["ROOST_DEMO_USER"],
        "password": lab.variables["ROOST_DEMO_PASSWORD"],
    }
    url = lab.variables["ROOST_URL"]
    with httpx.Client(base_url=url, timeout=10, trust_env=False) as client:
        while not stop.wait(PAUSE_S):
            try:
                answer = client.post("/api/v1/auth/token", data=form)
            except httpx.TransportError:
                continue
            if answer.status_code == 200:
                done.append(perf_counter())


def _longest(moments: list[float]) -> float:
    return max((later - earlier for earlier, later in pairwise(moments)), default=0.0)


def _ready(lab: Lab) -> None:
    deadline = monotonic() + 60
    while lab.user.get("/api/v1/auth/me").status_code != 200:
        if monotonic() > deadline:
            raise TimeoutError("the machine does not come back")


def _run(program: str, *words: str) -> None:
    command = [str(ROOT / "deploy" / "lab" / program), *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
