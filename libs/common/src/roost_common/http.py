"""HTTP: the application every service has, problem details, identity, pages.

Errors leave as ``application/problem+json`` (RFC 9457) with a stable ``code``; every answer
carries the correlation id under which the logs of all services can be found.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter
from typing import Annotated, Any, Final, Generic, TypeVar
from uuid import UUID, uuid4

import httpx
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from roost_common import log, metrics, ops
from roost_common.errors import Invalid, RoostError, Unauthenticated, Unavailable
from roost_common.ops import Check
from roost_common.security import Identity, KeySource, TokenVerifier

logger = log.get_logger(__name__)

MAX_BODY_BYTES: Final = 1 << 20
PROBLEM_TYPE: Final = "application/problem+json"
CORRELATION_HEADER: Final = "X-Request-Id"
PAGE_DEFAULT: Final = 100
PAGE_MAX: Final = 1000
_CORRELATION: Final = re.compile(r"^[A-Za-z0-9._-]{1,64}$")

T = TypeVar("T")


class ApiModel(BaseModel):
    """Base of request and answer bodies; a field nobody knows is an error, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Page(ApiModel, Generic[T]):
    """One page of a list; ``next`` is the cursor of the following one."""

    items: list[T]
    next: str | None
    total: int


# --- the application --------------------------------------------------------------------------


def create_app(
    title: str,
    *,
    routers: Sequence[APIRouter],
    checks: Mapping[str, Check],
    verifier: TokenVerifier,
    version: str = "0.1.0",
) -> FastAPI:
    """A service's HTTP application; what its endpoints need it finds under ``app.state``."""
    app = _Application(
        title=f"Roost {title}",
        version=version,
        docs_url=None,
        redoc_url=None,
        responses={"4XX": _refusal("Refused"), "5XX": _refusal("Failed, or not possible now")},
    )
    app.state.security = dict(_security(routers))
    app.state.verifier = verifier
    app.router.routes.extend(ops.routes(checks))
    for router in routers:
        app.include_router(router, dependencies=[Depends(known_query)])
    app.add_exception_handler(RoostError, _on_roost_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_crash)
    app.add_middleware(_Boundary)
    return app


class _Application(FastAPI):
    """Its OpenAPI document says who may call what, and how a refusal looks."""

    def openapi(self) -> dict[str, Any]:
        """Made when it is asked for the first time."""
        if self.openapi_schema is None:
            self.openapi_schema = _completed(super().openapi(), self.state.security)
        return self.openapi_schema


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
                await _too_large()(scope, receive, send_with_id)
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


# --- the OpenAPI document ---------------------------------------------------------------------

_SCHEMES: Final[dict[str, dict[str, str]]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "An access token of POST /api/v1/auth/token",
    },
    "basic": {"type": "http", "scheme": "basic", "description": "Name and password (RFC 7617)"},
}


class ProblemDetails(BaseModel):
    """Why a request was not done (RFC 9457); beside these the facts that the detail speaks of."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str = Field(description="about:blank: the code tells problems apart")
    title: str
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="One sentence for a person")
    code: str = Field(description="Stable, dotted: auth.required, request.invalid …")


def _refusal(description: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}
    return {"description": description, "content": {PROBLEM_TYPE: {"schema": schema}}}


def _security(routers: Sequence[APIRouter]) -> Iterator[tuple[tuple[str, str], list[str]]]:
    """Method and path of every endpoint with the schemes that it takes; none for open ones."""
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute):
                taken = _taken(route.dependant)
                for method in route.methods or ():
                    yield (
                        (method.lower(), route.path_format),
                        [name for name in _SCHEMES if name in taken],
                    )


def _taken(dependant: Dependant) -> set[str]:
    if dependant.call is identity:
        return {"bearer"}
    # What reads the header by itself does so because `identity` does not take Basic.
    reads = any(parameter.alias == "authorization" for parameter in dependant.header_params)
    return (set(_SCHEMES) if reads else set()).union(*map(_taken, dependant.dependencies))


def _completed(
    document: dict[str, Any], security: Mapping[tuple[str, str], Sequence[str]]
) -> dict[str, Any]:
    components = document.setdefault("components", {})
    components["securitySchemes"] = _SCHEMES
    schemas = components.setdefault("schemas", {})
    schemas[ProblemDetails.__name__] = ProblemDetails.model_json_schema()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation["security"] = [{name: []} for name in security.get((method, path), ())]
            if "parameters" in operation:
                # OpenAPI has readers ignore this header among the parameters.
                operation["parameters"] = [
                    each for each in operation["parameters"] if each["name"] != "authorization"
                ]
    return document


# --- problems ---------------------------------------------------------------------------------


def problem(
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    retry_after_s: float | None = None,
    **extra: Any,
) -> JSONResponse:
    """Problem details (RFC 9457) with Roost's ``code``."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    headers = {}
    if retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(retry_after_s)))
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer, Basic realm="Roost", charset="UTF-8"'
    return JSONResponse(body | extra, status, headers=headers, media_type=PROBLEM_TYPE)


def _too_large() -> JSONResponse:
    limit = f"A request body has at most {MAX_BODY_BYTES} bytes."
    return problem(413, "request.too-large", "Content too large", limit)


async def _on_roost_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RoostError)  # noqa: S101 - registered for this class alone
    if error.status >= 500:
        logger.warning("request.failed", code=error.code, detail=error.detail)
    fields = {key: value for key, value in error.fields.items() if _is_plain(value)}
    return problem(
        error.status,
        error.code,
        error.title,
        error.detail,
        retry_after_s=error.retry_after_s,
        **{k: v for k, v in fields.items() if k not in ("type", "title", "status", "detail")},
    )


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool, list, tuple)) or value is None


async def _on_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this alone
    details = error.errors()
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    about_body = any(item["loc"] == ("body",) for item in details)
    if about_body and media_type not in ("", "application/json"):
        wrong = f"The body is to be application/json, not {media_type[:80]}."
        return problem(415, "request.media-type", "Unsupported media type", wrong)
    if any(item["type"] == "json_invalid" for item in details):
        return problem(400, "request.malformed", "Malformed request", "The body is not JSON.")
    # Neither the input nor the context is repeated: a password may stand in them.
    errors = [
        {"field": ".".join(str(part) for part in item["loc"]), "message": item["msg"]}
        for item in details
    ]
    first = f"{errors[0]['field']}: {errors[0]['message']}" if errors else "The request is invalid."
    return problem(422, "request.invalid", "Invalid request", first, errors=errors)


async def _on_http_exception(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class alone
    if error.status_code == 413:
        return _too_large()
    codes = {
        400: "request.malformed",
        404: "request.no-such-path",
        405: "request.method-not-allowed",
    }
    code = codes.get(error.status_code, "request.refused")
    return problem(error.status_code, code, error.detail, error.detail)


async def _on_crash(_request: Request, error: Exception) -> JSONResponse:
    logger.error("request.crashed", exc_info=error)
    return problem(500, "internal", "Internal error", "The server failed; its log says how.")


# --- what a request may say -------------------------------------------------------------------


async def known_query(request: Request) -> None:
    """Raises `Invalid` for a query parameter that this path does not have.

    A filter that is misspelt and ignored would let a script act on everything.
    """
    known = getattr(request.app.state, "known_query", None)
    if known is None:
        known = request.app.state.known_query = _documented_query(request.app)
    route = request.scope.get("route")
    names = known.get((request.method, getattr(route, "path", "")))
    if names is None:
        return
    for name in request.query_params:
        if name not in names:
            raise Invalid(
                "request.unknown-parameter",
                "There is no parameter {parameter} here.",
                parameter=name,
                known=sorted(names),
            )


def _documented_query(app: FastAPI) -> dict[tuple[str, str], set[str]]:
    return {
        (method.upper(), path): {
            parameter["name"]
            for parameter in operation.get("parameters", [])
            if parameter["in"] == "query"
        }
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
    }


def _no_id(name: str) -> str:
    try:
        UUID(name)
    except ValueError:
        return name
    raise ValueError("a name may not look like an id")


NoId = AfterValidator(_no_id)
"""For names: wherever an id is taken a name is taken too, so no name may be a UUID."""


# --- identity ---------------------------------------------------------------------------------


async def identity(
    request: Request, authorization: Annotated[str | None, Header()] = None
) -> Identity:
    """The bearer of the access token. Raises `Unauthenticated`."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("auth.required", "A bearer token is needed.")
    verifier: TokenVerifier = request.app.state.verifier
    return await verifier.verify(token.strip())


async def administrator(who: Annotated[Identity, Depends(identity)]) -> Identity:
    """The same, and it must be an administrator. Raises `Forbidden`."""
    who.require_admin()
    return who


Caller = Annotated[Identity, Depends(identity)]
Admin = Annotated[Identity, Depends(administrator)]
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", max_length=255)]


def keys_from(url: str) -> KeySource:
    """Broker's key set over HTTP."""

    async def fetch() -> dict[str, Any]:
        try:
            async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
                answer = await client.get(url)
                answer.raise_for_status()
                keys: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(
                "auth.keys-unavailable", "Broker's keys cannot be read now.", retry_after_s=2
            ) from error
        return keys

    return fetch


# --- pages ------------------------------------------------------------------------------------


class PageQuery(BaseModel):
    """``limit`` and the decoded ``cursor``: the sort key of the last item of the page before."""

    limit: int
    after: tuple[str, ...] | None


async def page_query(
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    cursor: Annotated[str | None, Query(max_length=2000)] = None,
) -> PageQuery:
    """Raises `Invalid` for a cursor this service did not make."""
    return PageQuery(limit=limit, after=None if cursor is None else _decode_cursor(cursor))


Paging = Annotated[PageQuery, Depends(page_query)]


def encode_cursor(*key: str) -> str:
    """Opaque to clients; the sort key of an item."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def _decode_cursor(cursor: str) -> tuple[str, ...]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        parts = json.loads(base64.urlsafe_b64decode(padded))
    except (ValueError, binascii.Error):
        parts = None
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise Invalid("request.cursor-invalid", "This cursor was not made here.")
    return tuple(parts)
