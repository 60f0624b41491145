"""The one tree of errors.

::

    RoostError            500  internal
    ├── Invalid           422  the request cannot be understood or is out of range
    ├── Unauthenticated   401  nobody knows who asks
    ├── Forbidden         403  known, and not allowed
    ├── NotFound          404
    ├── Conflict          409  not in this state, or the name is taken
    ├── TooMany           429  slow down                                        retryable
    ├── NoCapacity        503  no host, memory or storage for it now            retryable
    └── Unavailable       503  a part of Roost, or something under it, is away  retryable
        └── Outage        503  something everybody here needs is away: wait, do not count attempts

An error carries a stable dotted ``code`` and the fields from which its text is made. HTTP turns
it into problem details (RFC 9457), the bus into the reply of a query. Errors of foreign libraries
are translated in the adapter that calls the library, nowhere else.
"""

from __future__ import annotations

from typing import Any, ClassVar

from roost_common.contracts.base import Problem


class RoostError(Exception):
    """An expected failure with a stable code.

    ``text`` is a format string over ``fields``; ``retry_after_s`` tells a caller when to come back.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False

    def __init__(
        self, code: str, text: str, *, retry_after_s: float | None = None, **fields: Any
    ) -> None:
        super().__init__(code)
        self.code = code
        self.text = text
        self.fields = fields
        self.retry_after_s = retry_after_s

    @property
    def detail(self) -> str:
        """The sentence for a person."""
        return self.text.format(**self.fields)

    @property
    def problem(self) -> Problem:
        """The same as part of a message."""
        return Problem(code=self.code, detail=self.detail)

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class Invalid(RoostError):
    """The request cannot be understood, or asks for what cannot be."""

    status = 422
    title = "Invalid request"


class Unauthenticated(RoostError):
    """Nobody knows who asks."""

    status = 401
    title = "Not authenticated"


class Forbidden(RoostError):
    """Known, and not allowed."""

    status = 403
    title = "Forbidden"


class NotFound(RoostError):
    """There is no such thing, or the caller may not know of it."""

    status = 404
    title = "Not found"


class Conflict(RoostError):
    """Not possible in the present state."""

    status = 409
    title = "Conflict"


class TooMany(RoostError):
    """Too often, too fast."""

    status = 429
    title = "Too many requests"
    retryable = True


class NoCapacity(RoostError):
    """No host, memory or storage for it now."""

    status = 503
    title = "No capacity"
    retryable = True


class Unavailable(RoostError):
    """A part of Roost, or something under it, does not answer now."""

    status = 503
    title = "Unavailable"
    retryable = True


class Outage(Unavailable):
    """Something every piece of work here needs is away; waiting is no failure of the work."""


_BY_STATUS: dict[int, type[RoostError]] = {
    error.status: error
    for error in (Invalid, Unauthenticated, Forbidden, NotFound, Conflict, TooMany, Unavailable)
}


def from_problem(status: int, code: str, detail: str) -> RoostError:
    """The error that another process reported, as one of ours."""
    kind = _BY_STATUS.get(status, RoostError)
    return kind(code, "{detail}", detail=detail)
