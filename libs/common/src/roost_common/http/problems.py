"""Errors as ``application/problem+json`` (RFC 9457) with a stable ``code``."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from roost_common import log
from roost_common.errors import RoostError

logger = log.get_logger(__name__)

MAX_BODY_BYTES: Final = 1 << 20
PROBLEM_TYPE: Final = "application/problem+json"


class ProblemDetails(BaseModel):
    """Why a request was not done (RFC 9457); beside these the facts that the detail speaks of."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str = Field(description="about:blank: the code tells problems apart")
    title: str
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="One sentence for a person")
    code: str = Field(description="Stable, dotted: auth.required, request.invalid …")


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


def handle(app: FastAPI) -> None:
    """Let every error of ``app`` leave as a problem."""
    app.add_exception_handler(RoostError, _on_roost_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_crash)


def too_large() -> JSONResponse:
    """For a body beyond `MAX_BODY_BYTES`."""
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
        return too_large()
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
