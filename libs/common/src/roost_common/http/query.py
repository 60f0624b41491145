"""What a request may ask for."""

from __future__ import annotations

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from roost_common.errors import Invalid


async def known_query(request: Request) -> None:
    """Raises `Invalid` for a query parameter that this path does not have.

    A filter that is misspelt and ignored would let a script act on everything.
    """
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return
    known = _query_of(route.dependant)
    for name in request.query_params:
        if name not in known:
            raise Invalid(
                "request.unknown-parameter",
                "There is no parameter {parameter} here.",
                parameter=name,
                known=sorted(known),
            )


def _query_of(dependant: Dependant) -> set[str]:
    own = {parameter.alias for parameter in dependant.query_params}
    return own.union(*map(_query_of, dependant.dependencies))
