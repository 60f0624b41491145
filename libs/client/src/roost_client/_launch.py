"""Launching a desktop: ask, keep the place in the queue, come back with a viewer's file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import httpx

from roost_client._errors import NotUnderstood, WaitedTooLong
from roost_client._transport import JsonObject, Transport, body

VIEWER_FILE: Final = "application/x-virt-viewer"
ASKED_TO_WAIT_S: Final = 10
"""How long one request asks the server to wait (RFC 7240): short enough to show progress."""
POLL_DEFAULT_S: Final = 2.0


@dataclass(frozen=True)
class Wish:
    """What to open. Without pool and desktop: the only one the user has."""

    pool: str | None = None
    desktop: str | None = None
    protocols: Sequence[str] = ("spice",)
    client: JsonObject = field(default_factory=dict)
    """``name``, ``monitors``, ``link`` (lan or wan)."""

    def as_body(self) -> JsonObject:
        """The request's body: what was not said is left out."""
        wanted: JsonObject = {"protocols": list(self.protocols)}
        wanted |= {"pool": self.pool} if self.pool else {}
        wanted |= {"desktop": self.desktop} if self.desktop else {}
        wanted |= {"client": self.client} if self.client else {}
        return wanted


@dataclass(frozen=True)
class Place:
    """Not ready yet."""

    launch_id: str
    state: str
    position: int | None
    retry_after_s: float


@dataclass(frozen=True)
class Ticket:
    """A desktop is ready; ``viewer_file`` opens it, within seconds."""

    viewer_file: str


def launch(
    transport: Transport, wish: Wish, patience_s: float, on_place: Callable[[Place], None]
) -> Ticket:
    """Ask until the desktop is ready; ``on_place`` hears of each answer that it is not yet.

    Raises `Refused` as the server does, and `WaitedTooLong` after ``patience_s``.
    """
    ends = time.monotonic() + patience_s
    method, path, content = "POST", "/launch", wish.as_body()
    while True:
        asked_at = time.monotonic()
        wait_s = max(0, min(ASKED_TO_WAIT_S, int(ends - asked_at)))
        answer = transport.request(
            method,
            path,
            json=content if method == "POST" else None,
            headers={
                "Accept": f"{VIEWER_FILE}, application/json;q=0.5",
                "Prefer": f"wait={wait_s}",
            },
            answer_within_s=wait_s + 30.0,
        )
        if answer.status_code != 202:
            return Ticket(_viewer_file(answer))
        place = _place(body(answer))
        on_place(place)
        pause_s = place.retry_after_s
        if time.monotonic() - asked_at >= wait_s > 0:
            pause_s = 0.0  # the server has waited for us: ask again at once
        if time.monotonic() + pause_s >= ends:
            raise WaitedTooLong(
                "client.waited-too-long", f"No desktop was ready within {patience_s:g} s."
            )
        time.sleep(pause_s)  # the pause that the server asked for
        method, path = "GET", f"/launch/{place.launch_id}"


def _viewer_file(answer: httpx.Response) -> str:
    if answer.headers.get("content-type", "").split(";")[0].strip() != VIEWER_FILE:
        raise NotUnderstood(
            "client.no-viewer-file", "The server did not answer with a file for the viewer."
        )
    return answer.text


def _place(said: JsonObject) -> Place:
    if "launch_id" not in said:
        raise NotUnderstood("client.answer-odd", "The server did not say which launch this is.")
    after_ms = said.get("retry_after_ms")
    return Place(
        launch_id=str(said["launch_id"]),
        state=str(said.get("state", "")),
        position=said.get("position"),
        retry_after_s=POLL_DEFAULT_S if after_ms is None else max(0.05, float(after_ms) / 1000),
    )
