"""The application that every service has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Final
from uuid import uuid4

from fastapi import APIRouter, Depends, FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from roost_common import log, metrics, ops
from roost_common.http import problems
from roost_common.http.openapi import Documented, refusal, security_of
from roost_common.http.problems import MAX_BODY_BYTES
from roost_common.http.query import known_query
from roost_common.ops import Check
from roost_common.security import TokenVerifier

logger = log.get_logger(__name__)

CORRELATION_HEADER: Final = "X-Request-Id"
_CORRELATION: Final = re.compile(r"^[A-Za-z0-9._-]{1,64}$")


def create_app(
    title: str,
    *,
    routers: Sequence[APIRouter],
    checks: Mapping[str, Check],
    verifier: TokenVerifier,
    version: str = "0.1.0",
) -> FastAPI:
    """A service's HTTP application; what its endpoints need it finds under ``app.state``."""
    app = Documented(
        title=f"Roost {title}",
        version=version,
        docs_url=None,
        redoc_url=None,
        responses={"4XX": refusal("Refused"), "5XX": refusal("Failed, or not possible now")},
    )
    app.state.security = dict(security_of(routers))
    app.state.verifier = verifier
    app.router.routes.extend(ops.routes(checks))
    for router in routers:
        app.include_router(router, dependencies=[Depends(known_query)])
    problems.handle(app)
    app.add_middleware(_Boundary)
    return app


class _Boundary:
    """The outermost layer: correlation id, size limit, time taken, a line for every change."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(CORRELATION_HEADER, "")
        correlation_id = given if _CORRELATION.match(given) else str(uuid4())
        started = perf_counter()
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[CORRELATION_HEADER] = correlation_id
            await send(message)

        with log.bound_contextvars(correlation_id=correlation_id):
            if int(headers.get("content-length") or 0) > MAX_BODY_BYTES:
                await problems.too_large()(scope, receive, send_with_id)
            else:
                await self._app(scope, _limited(receive), send_with_id)
            taken = perf_counter() - started
            if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
                logger.info(
                    "http.request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    ms=round(taken * 1000),
                )
        route = scope.get("route")
        metrics.HTTP_SECONDS.labels(
            scope["method"], getattr(route, "path", "none"), str(status)
        ).observe(taken)


def _limited(receive: Receive) -> Receive:
    """A body without a declared length is counted as it comes."""
    total = 0

    async def counted() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > MAX_BODY_BYTES:
            raise HTTPException(413)
        return message

    return counted
