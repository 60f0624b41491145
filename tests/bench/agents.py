"""Agents with the fake driver in one process: ``python -m tests.bench.agents URL COUNT NAME``."""

from __future__ import annotations

import asyncio
import sys

import uvloop
from pydantic import SecretStr

from roost_common import log
from roost_host_agent.bootstrap import build_agent
from roost_host_agent.settings import DriverName, Settings


async def run(amqp_url: str, count: int, name: str) -> None:
    """Nodes called NAME0, NAME1 …, until terminated."""
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            settings = Settings(
                amqp_url=SecretStr(amqp_url),
                node=f"{name}{number}",
                address="127.0.0.1",
                driver=DriverName.FAKE,
            )
            group.create_task(build_agent(settings).run())


if __name__ == "__main__":
    log.configure("bench-agents", "warning")
    uvloop.run(run(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
