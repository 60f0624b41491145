"""What operators ask every process: ``/healthz``, ``/readyz``, ``/metrics``.

Plain Starlette, so that the agent on a node carries no more than it needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from roost_common import metrics
from roost_common.errors import RoostError

Check = Callable[[], Awaitable[None]]
"""Raises a `RoostError` while a part is not ready."""

CHECK_DEADLINE_S: Final = 3.0


async def failures(checks: Mapping[str, Check]) -> dict[str, str]:
    """What is not ready, and why; empty when all is."""

    async def run(check: Check) -> str:
        try:
            async with asyncio.timeout(CHECK_DEADLINE_S):
                await check()
        except TimeoutError:
            return "no answer in time"
        except RoostError as error:
            return error.detail
        return ""

    results = await asyncio.gather(*(run(check) for check in checks.values()))
    return {name: result for name, result in zip(checks, results, strict=True) if result}


def routes(checks: Mapping[str, Check]) -> list[Route]:
    """Liveness (the process answers), readiness (so do its ``checks``), and metrics."""

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_request: Request) -> Response:
        failed = await failures(checks)
        return JSONResponse(
            {"status": "unready" if failed else "ready", "failed": failed},
            status_code=503 if failed else 200,
        )

    async def show_metrics(_request: Request) -> Response:
        return Response(metrics.render(), media_type=metrics.CONTENT_TYPE)

    return [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", show_metrics),
    ]
