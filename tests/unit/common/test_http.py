"""What every service's HTTP promises: problems, limits, identity, pages."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from roost_common.clock import SystemClock
from roost_common.errors import Conflict, NoCapacity, Unavailable
from roost_common.http import (
    MAX_BODY_BYTES,
    Admin,
    ApiModel,
    Caller,
    Page,
    Paging,
    ProblemDetails,
    create_app,
    encode_cursor,
)
from roost_common.security import Identity, Role, TokenSigner, TokenVerifier, new_signing_key

router = APIRouter()


class Thing(ApiModel):
    name: str
    password: str = ""


@router.post("/things")
async def create_thing(thing: Thing) -> Thing:
    if thing.name == "taken":
        raise Conflict("thing.name-taken", "There is a {name} already.", name=thing.name)
    if thing.name == "crash":
        raise RuntimeError("with a secret inside")
    return thing


@router.get("/things")
async def list_things(paging: Paging) -> Page[str]:
    return Page(items=list(paging.after or ()), next=encode_cursor("b", "2"), total=1)


@router.get("/full")
async def full() -> None:
    raise NoCapacity("placement.no-capacity", "All hosts are full.", retry_after_s=7)


@router.get("/me")
async def me(caller: Caller) -> str:
    return caller.name


@router.get("/admin")
async def admin(caller: Admin) -> str:
    return caller.name


SIGNER = TokenSigner(new_signing_key(), SystemClock(), lifetime=timedelta(minutes=5))


def token(*roles: Role, signer: TokenSigner = SIGNER) -> dict[str, str]:
    who = Identity(id=uuid4(), name="ann", roles=frozenset(roles))
    return {"Authorization": f"Bearer {signer.sign(who)}"}


@pytest.fixture
def ready() -> dict[str, bool]:
    return {"now": True}


@pytest.fixture
async def client(ready: dict[str, bool]) -> AsyncIterator[httpx.AsyncClient]:
    async def keys() -> dict[str, object]:
        return SIGNER.jwks()

    async def check() -> None:
        if not ready["now"]:
            raise Unavailable("database.unavailable", "The database does not answer.")

    app: FastAPI = create_app(
        "test",
        routers=[router],
        checks={"database": check},
        verifier=TokenVerifier(keys, SystemClock()),
    )
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def code_of(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    ProblemDetails.model_validate(body, strict=True)
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    code: str = body["code"]
    return code


async def test_an_expected_failure_is_a_problem_with_its_fields(client: httpx.AsyncClient) -> None:
    answer = await client.post("/things", json={"name": "taken"})
    assert code_of(answer, 409) == "thing.name-taken"
    assert answer.json()["name"] == "taken"
    assert answer.json()["detail"] == "There is a taken already."


async def test_a_retryable_failure_says_when_to_come_back(client: httpx.AsyncClient) -> None:
    answer = await client.get("/full")
    assert code_of(answer, 503) == "placement.no-capacity"
    assert answer.headers["retry-after"] == "7"


async def test_bad_requests_are_told_apart(client: httpx.AsyncClient) -> None:
    malformed = await client.post(
        "/things", content=b'{"name": ', headers={"content-type": "application/json"}
    )
    assert code_of(malformed, 400) == "request.malformed"
    unknown = await client.post("/things", json={"name": "a", "colour": "red"})
    assert code_of(unknown, 422) == "request.invalid"
    assert "colour" in unknown.json()["detail"]
    assert code_of(await client.get("/nowhere"), 404) == "request.no-such-path"
    assert code_of(await client.delete("/things"), 405) == "request.method-not-allowed"


async def test_an_invalid_request_is_not_repeated_in_the_answer(client: httpx.AsyncClient) -> None:
    answer = await client.post("/things", json={"name": 5, "password": ["hunter2"]})
    assert code_of(answer, 422) == "request.invalid"
    assert "hunter2" not in answer.text


@pytest.mark.parametrize("declared", [True, False])
async def test_a_huge_body_is_refused(client: httpx.AsyncClient, declared: bool) -> None:
    body = b'{"name": "' + b"x" * MAX_BODY_BYTES + b'"}'

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    headers = {"content-type": "application/json"}
    answer = await client.post("/things", content=body if declared else chunks(), headers=headers)
    assert code_of(answer, 413) == "request.too-large"


async def test_a_query_parameter_that_nobody_knows_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.get("/things", params={"colour": "red"})
    assert code_of(answer, 422) == "request.unknown-parameter"
    assert answer.json()["known"] == ["cursor", "limit"]


async def test_a_body_of_another_kind_is_told(client: httpx.AsyncClient) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = await client.post("/things", content=b'{"name": "a"}', headers=form)
    assert code_of(answer, 415) == "request.media-type"


async def test_a_crash_tells_nothing(client: httpx.AsyncClient) -> None:
    answer = await client.post("/things", json={"name": "crash"})
    assert code_of(answer, 500) == "internal"
    assert "secret" not in answer.text


async def test_tokens_open_what_they_should(client: httpx.AsyncClient) -> None:
    assert code_of(await client.get("/me"), 401) == "auth.required"
    assert "Basic" in (await client.get("/me")).headers["www-authenticate"]
    user = token(Role.USER)
    assert (await client.get("/me", headers=user)).json() == "ann"
    assert code_of(await client.get("/admin", headers=user), 403) == "auth.admin-only"
    assert (await client.get("/admin", headers=token(Role.ADMIN))).json() == "ann"


async def test_a_token_of_another_key_or_out_of_time_is_refused(client: httpx.AsyncClient) -> None:
    stranger = TokenSigner(new_signing_key(), SystemClock(), lifetime=timedelta(minutes=5))
    late = TokenSigner(new_signing_key(), SystemClock(), lifetime=timedelta(seconds=-1))
    late._key, late.key_id = SIGNER._key, SIGNER.key_id
    for signer in (stranger, late):
        answer = await client.get("/me", headers=token(Role.ADMIN, signer=signer))
        assert code_of(answer, 401) == "auth.token-invalid"
    none_alg = "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0."
    answer = await client.get("/me", headers={"Authorization": f"Bearer {none_alg}"})
    assert code_of(answer, 401) == "auth.token-invalid"


async def test_a_correlation_id_is_kept_or_made(client: httpx.AsyncClient) -> None:
    given = await client.get("/me", headers={"X-Request-Id": "abc-1"})
    assert given.headers["x-request-id"] == "abc-1"
    forged = await client.get("/me", headers={"X-Request-Id": "a b\tc"})
    assert str(UUID(forged.headers["x-request-id"])) == forged.headers["x-request-id"]


async def test_cursors_come_back_as_they_went(client: httpx.AsyncClient) -> None:
    first = (await client.get("/things")).json()
    second = (await client.get("/things", params={"cursor": first["next"]})).json()
    assert second["items"] == ["b", "2"]
    deep = base64.urlsafe_b64encode(b"[" * 1400).decode().rstrip("=")
    for forged in ("bm9uc2Vuc2U", deep):
        answer = await client.get("/things", params={"cursor": forged})
        assert code_of(answer, 422) == "request.cursor-invalid"
    assert code_of(await client.get("/things", params={"limit": 0}), 422) == "request.invalid"


async def test_readiness_follows_its_checks_and_liveness_does_not(
    client: httpx.AsyncClient, ready: dict[str, bool]
) -> None:
    assert (await client.get("/readyz")).status_code == 200
    ready["now"] = False
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["failed"] == {"database": "The database does not answer."}
    assert (await client.get("/healthz")).status_code == 200
    assert b"roost_http_request_seconds" in (await client.get("/metrics")).content
