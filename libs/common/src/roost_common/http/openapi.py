"""The OpenAPI document, completed: who may call what, and how a refusal looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from roost_common.http.identity import identity
from roost_common.http.problems import PROBLEM_TYPE, ProblemDetails

_SCHEMES: Final[dict[str, dict[str, str]]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "An access token of POST /api/v1/auth/token",
    },
    "basic": {"type": "http", "scheme": "basic", "description": "Name and password (RFC 7617)"},
}


class Documented(FastAPI):
    """An application whose OpenAPI document says who may call what, and how a refusal looks."""

    def openapi(self) -> dict[str, Any]:
        """Made when it is asked for the first time."""
        if self.openapi_schema is None:
            self.openapi_schema = _completed(super().openapi(), self.state.security)
        return self.openapi_schema


def refusal(description: str) -> dict[str, Any]:
    """An answer with a problem, for an endpoint's ``responses``."""
    schema = {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}
    return {"description": description, "content": {PROBLEM_TYPE: {"schema": schema}}}


def security_of(routers: Sequence[APIRouter]) -> Iterator[tuple[tuple[str, str], list[str]]]:
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
