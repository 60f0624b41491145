"""A collection of objects at one path: desktops, hosts, pools and the rest are all alike."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

import httpx

from roost_client._errors import NotUnderstood, WaitedTooLong, WorkFailed
from roost_client._transport import JsonObject, Transport, body

POLL_S: Final = 0.5
"""How often long work is asked for."""
DONE: Final = frozenset({"done", "ready"})
FAILED: Final = frozenset({"failed", "cancelled"})

Answers = list[JsonObject]
"""Outside of `Collection`, where ``list`` is a method."""


@dataclass(frozen=True)
class Accepted:
    """The answer to a write: the object it made or changed, and where long work can be watched."""

    item: JsonObject
    location: str | None
    """Set when the server answered 202."""


class Collection:
    """Objects at ``path``; wherever an object is named, its id or its name is taken."""

    def __init__(
        self, transport: Transport, path: str, *, answer_within_s: float | None = None
    ) -> None:
        """``answer_within_s``: where the server asks others before it answers."""
        self._transport = transport
        self._answer_within_s = answer_within_s
        self.path = path

    def list(self, **filters: str | int) -> Iterator[JsonObject]:
        """Every object, fetched page by page as it is asked for."""
        return self._transport.items(self.path, filters)

    def get(self, name: str) -> JsonObject:
        """One object."""
        return body(self._transport.request("GET", self._at(name)))

    def create(self, new: JsonObject) -> Accepted:
        """Make one; sent with an idempotency key, so it is made once."""
        return _accepted(self._transport.create(self.path, new))

    def change(self, name: str, fields: JsonObject) -> Accepted:
        """Change the given fields of one."""
        return _accepted(self._transport.request("PATCH", self._at(name), json=fields))

    def delete(self, name: str, **options: str) -> Accepted:
        """Remove one."""
        return _accepted(self._transport.request("DELETE", self._at(name), params=options))

    def act(self, name: str, verb: str, arguments: JsonObject | None = None) -> Accepted:
        """``POST …/{name}/{verb}``: start, approve, acknowledge."""
        path = f"{self._at(name)}/{quote(verb, safe='')}"
        return _accepted(self._request("POST", path, arguments))

    def ask(self, name: str, verb: str) -> Answers:
        """``POST …/{name}/{verb}`` that answers with a list: what a host's fence devices say."""
        path = f"{self._at(name)}/{quote(verb, safe='')}"
        answers = self._request("POST", path).json()
        if not isinstance(answers, list):
            raise NotUnderstood("client.answer-odd", f"{path} answered with no list.")
        return answers

    def put(self, name: str, content: object) -> JsonObject:
        """PUT one whole; what was there is replaced."""
        return body(self._request("PUT", self._at(name), content))

    def part(self, name: str, part: str) -> Collection:
        """The collection below one object: the versions of a template."""
        return Collection(self._transport, f"{self._at(name)}/{part}")

    def part_of(self, name: str, part: str) -> object:
        """A part of one object as it is: the entitlements of a pool."""
        content: object = self._transport.request("GET", f"{self._at(name)}/{part}").json()
        return content

    def replace(self, name: str, part: str, content: object) -> None:
        """PUT a whole part of one object."""
        self._transport.request("PUT", f"{self._at(name)}/{part}", json=content)

    def _request(self, method: str, path: str, content: object = None) -> httpx.Response:
        return self._transport.request(
            method, path, json=content, answer_within_s=self._answer_within_s
        )

    def _at(self, name: str) -> str:
        return f"{self.path}/{quote(name, safe='')}"


def follow(transport: Transport, location: str, patience_s: float) -> Iterator[JsonObject]:
    """The states of long work, each as it is seen, until it is done.

    Raises `WorkFailed` when it fails, `WaitedTooLong` when it is not done after ``patience_s``.
    """
    ends = time.monotonic() + patience_s
    path = urlsplit(location).path
    while True:
        work = body(transport.request("GET", path))
        yield work
        state = str(work.get("state", ""))
        if state in DONE:
            return
        if state in FAILED:
            problem = work.get("problem") or {}
            raise WorkFailed(
                str(problem.get("code") or f"work.{state}"),
                str(problem.get("detail") or f"The work was {state}."),
            )
        if time.monotonic() + POLL_S > ends:
            raise WaitedTooLong(
                "client.waited-too-long",
                f"Not done after {patience_s:g} s; it goes on, see {path}.",
            )
        time.sleep(POLL_S)  # of a caller that waits: this client is synchronous


def _accepted(answer: httpx.Response) -> Accepted:
    location = answer.headers.get("Location") if answer.status_code == 202 else None
    return Accepted(body(answer), location)


__all__ = ["Accepted", "Collection", "JsonObject", "follow"]
