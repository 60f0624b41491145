"""The one tree of errors.

::

    RoostClientError
    ├── Unreachable        nobody answered: connection, name, certificate, time
    ├── NotUnderstood      somebody answered, but not as Roost does
    ├── WaitedTooLong      it may still come; the caller's patience ended first
    ├── WorkFailed         long work was accepted and then failed
    └── Refused            an answer with problem details (RFC 9457)
        ├── Invalid            400, 422
        ├── NotAuthenticated   401
        ├── Forbidden          403
        ├── NotFound           404
        ├── Conflict           409
        ├── TooMany            429
        └── Unavailable        502, 503, 504
"""

from __future__ import annotations

from typing import Final

import httpx


class RoostClientError(Exception):
    """What this library raises. ``code`` is stable and dotted, ``detail`` is for a person."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{detail} ({code})")
        self.code = code
        self.detail = detail


class Unreachable(RoostClientError):
    """Nobody answered."""


class NotUnderstood(RoostClientError):
    """The answer is none of Roost's."""


class WaitedTooLong(RoostClientError):
    """Not ready within the time that the caller gave."""


class WorkFailed(RoostClientError):
    """Accepted work ended without success."""


class Refused(RoostClientError):
    """Roost answered that it will not, or cannot now."""

    def __init__(
        self, code: str, detail: str, *, status: int, retry_after_s: float | None = None
    ) -> None:
        super().__init__(code, detail)
        self.status = status
        self.retry_after_s = retry_after_s


class Invalid(Refused):
    """The request cannot be understood or asks for what cannot be."""


class NotAuthenticated(Refused):
    """Nobody knows who asks: log in, or log in again."""


class Forbidden(Refused):
    """Known, and not allowed."""


class NotFound(Refused):
    """There is no such thing, or the caller may not know of it."""


class Conflict(Refused):
    """Not possible in the present state."""


class TooMany(Refused):
    """Slow down; ``retry_after_s`` says by how much."""


class Unavailable(Refused):
    """No capacity, or a part of Roost is away; ``retry_after_s`` says when to come back."""


_BY_STATUS: Final[dict[int, type[Refused]]] = {
    400: Invalid,
    401: NotAuthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    422: Invalid,
    429: TooMany,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def refusal(answer: httpx.Response) -> Refused:
    """The error that an answer of 400 or more means.

    A front without its services answers in its own words; then the code is ``http.<status>``.
    """
    code, detail = f"http.{answer.status_code}", f"The server answered {answer.status_code}."
    if "json" in answer.headers.get("content-type", ""):
        try:
            problem = answer.json()
        except ValueError:
            problem = None
        if isinstance(problem, dict):
            code = str(problem.get("code") or code)
            detail = str(problem.get("detail") or problem.get("title") or detail)
    kind = _BY_STATUS.get(answer.status_code, Refused)
    return kind(
        code, detail, status=answer.status_code, retry_after_s=seconds(answer, "Retry-After")
    )


def seconds(answer: httpx.Response, header: str) -> float | None:
    """A header that holds a number of seconds; None without it, or with a date in it."""
    try:
        return float(answer.headers[header])
    except (KeyError, ValueError):
        return None
