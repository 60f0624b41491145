"""The only module that sends: one connection pool, one address, problem details as errors."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx

from roost_client._errors import NotUnderstood, Unreachable, refusal

JsonObject = dict[str, Any]
"""An object as the server sent it; the fields are those of the OpenAPI documents."""

PREFIX: Final = "/api/v1"
PAGE: Final = 500
"""Items asked for at once."""
SENT_AGAIN: Final = 2
"""A create whose answer was lost is sent again with the same key so often."""


class Transport:
    """Requests to one Roost. The environment's proxies are not used: Roost is on this network."""

    def __init__(self, url: str, *, token: str | None, ca: str | Path | None, timeout_s: float):
        # Without TLS there is nothing to verify, and reading the CAs would take longer than the
        # request. Redirects are not followed, so an http address never becomes an https one.
        verify: ssl.SSLContext | bool = url.startswith("https:")
        if ca is not None:
            try:
                verify = ssl.create_default_context(cafile=str(ca))
            except (OSError, ssl.SSLError) as error:
                raise Unreachable(
                    "client.ca-unreadable", f"The CA {ca} cannot be read: {error}."
                ) from error
        self.token = token
        try:
            self._http = httpx.Client(
                base_url=url, verify=verify, timeout=timeout_s, trust_env=False
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise Unreachable("client.url-invalid", f"{url} is no address.") from error

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        form: Mapping[str, str] | None = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        answer_within_s: float | None = None,
    ) -> httpx.Response:
        """One request below ``/api/v1``. Raises `Unreachable` or `Refused`."""
        sent = {"Accept": "application/json", **(headers or {})}
        if self.token is not None:
            sent["Authorization"] = f"Bearer {self.token}"
        extra: dict[str, Any] = {} if json is None else {"json": json}
        if answer_within_s is not None:
            extra["timeout"] = answer_within_s
        full = path if path.startswith("/api/") else PREFIX + path
        try:
            answer = self._http.request(
                method, full, data=form, params=params, headers=sent, **extra
            )
        except httpx.TimeoutException as error:
            raise Unreachable(
                "client.timeout", f"{self._http.base_url} did not answer in time."
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(
                "client.unreachable", f"{self._http.base_url} cannot be reached: {error}."
            ) from error
        if answer.status_code >= 400:
            raise refusal(answer)
        return answer

    def create(self, path: str, body: JsonObject) -> httpx.Response:
        """POST something new, exactly once even when an answer is lost on its way."""
        headers = {"Idempotency-Key": str(uuid4())}
        for _ in range(SENT_AGAIN):
            try:
                return self.request("POST", path, json=body, headers=headers)
            except Unreachable:
                continue
        return self.request("POST", path, json=body, headers=headers)

    def items(self, path: str, params: Mapping[str, str | int]) -> Iterator[JsonObject]:
        """Every item of a list, page after page."""
        query: dict[str, str | int] = {"limit": PAGE, **params}
        while True:
            page = body(self.request("GET", path, params=query))
            if not isinstance(page.get("items"), list):
                raise NotUnderstood("client.answer-odd", f"{path} answered with no list.")
            yield from page["items"]
            if page.get("next") is None:
                return
            query["cursor"] = str(page["next"])


def body(answer: httpx.Response) -> JsonObject:
    """The answer's JSON object; an empty one where the answer has no body."""
    if not answer.content:
        return {}
    try:
        content = answer.json()
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise NotUnderstood("client.answer-odd", f"{answer.url} did not answer with a JSON object.")
    return content
