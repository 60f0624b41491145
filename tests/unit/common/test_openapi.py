"""Every service's OpenAPI document says who may call what, and how a refusal looks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from fastapi import APIRouter

from roost_broker.api import ROUTERS as BROKER
from roost_common.clock import SystemClock
from roost_common.http import create_app
from roost_common.security import TokenVerifier
from roost_ha_monitor.api import Api, FencingApi, IncidentsApi
from roost_imaging.api import ROUTERS as IMAGING
from roost_inventory.api import ROUTERS as INVENTORY

OPEN = {("post", "/api/v1/auth/token"), ("get", "/api/v1/auth/jwks")}
"""Whoever has no token yet calls these."""
PASSWORD_TOO = {("post", "/api/v1/launch"), ("get", "/api/v1/launch/{launch_id}")}
"""A launcher's whole work is one call, with name and password."""


def _ha_monitor() -> list[APIRouter]:
    nobody: Any = None
    fencing = FencingApi(nobody, nobody, SystemClock()).router
    incidents = IncidentsApi(nobody, nobody, nobody, SystemClock()).router
    return [fencing, incidents, Api(nobody, nobody, SystemClock(), uuid4()).router]


SERVICES = {
    "broker": BROKER,
    "inventory": INVENTORY,
    "imaging": IMAGING,
    "ha-monitor": _ha_monitor(),
}


def document_of(service: str) -> dict[str, Any]:
    async def keys() -> dict[str, Any]:
        return {"keys": []}

    verifier = TokenVerifier(keys, SystemClock())
    app = create_app(service, routers=SERVICES[service], checks={}, verifier=verifier)
    return app.openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield (method, path), operation


@pytest.fixture(params=list(SERVICES))
def document(request: pytest.FixtureRequest) -> dict[str, Any]:
    return document_of(request.param)


def test_every_operation_says_who_may_call_it(document: dict[str, Any]) -> None:
    said = {key: operation["security"] for key, operation in operations(document)}
    assert said
    assert said == {
        key: []
        if key in OPEN
        else [{"bearer": []}, {"basic": []}]
        if key in PASSWORD_TOO
        else [{"bearer": []}]
        for key in said
    }
    schemes = document["components"]["securitySchemes"]
    assert (schemes["bearer"]["scheme"], schemes["bearer"]["bearerFormat"]) == ("bearer", "JWT")
    assert (schemes["basic"]["type"], schemes["basic"]["scheme"]) == ("http", "basic")


def test_the_open_operations_and_those_with_a_password_are_there() -> None:
    assert {key for key, _ in operations(document_of("broker"))} >= OPEN | PASSWORD_TOO


def test_every_operation_says_how_a_refusal_looks(document: dict[str, Any]) -> None:
    problem = {"$ref": "#/components/schemas/ProblemDetails"}
    for key, operation in operations(document):
        for status in ("4XX", "5XX"):
            content = operation["responses"][status]["content"]
            assert content == {"application/problem+json": {"schema": problem}}, key
        assert not {"default", "422"} & operation["responses"].keys(), key
    schema = document["components"]["schemas"]["ProblemDetails"]
    assert {"type", "title", "status", "detail", "code"} <= set(schema["required"])


def test_the_token_is_no_parameter(document: dict[str, Any]) -> None:
    names = {
        parameter["name"].lower()
        for _, operation in operations(document)
        for parameter in operation.get("parameters", [])
    }
    assert names
    assert "authorization" not in names


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas, reference


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)
