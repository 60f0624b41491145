"""The launcher's one call: credentials in, a desktop's SPICE connection out."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Header, Request, Response

from roost_broker.api.parts import Broker, Launcher, Parts, address
from roost_broker.launch import Client, Queued, Ready, Wish
from roost_broker.schemas import LaunchQueued, LaunchReady, LaunchRequest
from roost_broker.views import launch_queued, launch_ready, screen
from roost_broker.vv import MEDIA_TYPE, render
from roost_common.http import IdempotencyKey

router = APIRouter(prefix="/api/v1/launch", tags=["launch"])

_WAIT: Final = re.compile(r'(?:^|[,\s])wait\s*=\s*"?(\d{1,9})"?(?=[,;\s]|$)', re.IGNORECASE)
"""RFC 7240, section 4.3."""
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "model": LaunchReady,
        "description": "The screen is open",
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
    },
    202: {"model": LaunchQueued, "description": "A place in the queue"},
}

Prefer = Annotated[list[str] | None, Header(description="wait=N waits up to N seconds")]
Accept = Annotated[str | None, Header(include_in_schema=False)]


@router.post("", responses=_ANSWERS, response_model=None, summary="Open a desktop")
async def launch(
    *,
    request: Request,
    parts: Parts,
    who: Launcher,
    body: LaunchRequest | None = None,
    prefer: Prefer = None,
    accept: Accept = None,
    key: IdempotencyKey = None,
) -> Response:
    """The user's open desktop again, or the first free one of a pool, or a place in its queue."""
    wanted = body or LaunchRequest()
    facts = wanted.client
    fullscreen = facts.monitors > 1 if facts.fullscreen is None else facts.fullscreen
    wish = Wish(
        client=Client(
            address=address(request),
            name=facts.name,
            monitors=facts.monitors,
            fullscreen=fullscreen,
            thin_link=facts.link == "wan",
        ),
        pool=wanted.pool,
        desktop=wanted.desktop,
        new=wanted.new,
        protocols=None if wanted.protocols is None else tuple(wanted.protocols),
    )
    step = await parts.launching.start(who.id, wish, key=key, request=wanted)
    return await _answer(
        request, parts=parts, user_id=who.id, step=step, prefer=prefer, accept=accept
    )


@router.get(
    "/{launch_id}", responses=_ANSWERS, response_model=None, summary="The same answer again"
)
async def get_launch(
    *,
    request: Request,
    parts: Parts,
    who: Launcher,
    launch_id: UUID,
    prefer: Prefer = None,
    accept: Accept = None,
) -> Response:
    """Until it is ready; each ready answer carries a fresh ticket."""
    step = await parts.launching.again(who.id, launch_id)
    return await _answer(
        request, parts=parts, user_id=who.id, step=step, prefer=prefer, accept=accept
    )


async def _answer(
    request: Request,
    *,
    parts: Broker,
    user_id: UUID,
    step: Ready | Queued,
    prefer: list[str] | None,
    accept: str | None,
) -> Response:
    headers = {"Cache-Control": "no-store", "Vary": "Accept, Prefer"}
    wait_s = _wait_s(prefer, parts.settings.wait_max_s)
    if wait_s is not None:
        headers["Preference-Applied"] = f"wait={wait_s}"
        step = await _wait(request, parts, user_id, step, wait_s)
    if isinstance(step, Queued):
        headers["Retry-After"] = str(max(1, -(-step.retry_after_ms // 1000)))
        headers["Location"] = f"{router.prefix}/{step.launch_id}"
        return _json(launch_queued(step), 202, headers)
    if MEDIA_TYPE in (accept or "").lower():
        settings = parts.settings
        text = render(
            screen(
                step,
                usb_filter=settings.usb_filter,
                versions=settings.viewer_versions,
                newer_version_url=settings.viewer_newer_version_url,
            )
        )
        headers["Content-Disposition"] = f'inline; filename="{step.granted.place.name}.vv"'
        return Response(text, headers=headers, media_type=MEDIA_TYPE)
    return _json(launch_ready(step), 200, headers)


async def _wait(
    request: Request, parts: Broker, user_id: UUID, step: Ready | Queued, wait_s: int
) -> Ready | Queued:
    clock, room = parts.unit_of_work.clock, parts.waiting_room
    deadline = clock.monotonic() + wait_s
    while isinstance(step, Queued):
        left_s = deadline - clock.monotonic()
        if left_s <= 0 or room.closed:
            break
        await room.wait(step.pool_id, step.number, left_s)
        if await request.is_disconnected():
            break  # nobody is there to take a desktop
        step = await parts.launching.again(user_id, step.launch_id, waiting=True)
    return step


def _wait_s(prefer: list[str] | None, most: int) -> int | None:
    found = _WAIT.search(",".join(prefer or []))
    return None if found is None else min(int(found.group(1)), most)


def _json(body: LaunchReady | LaunchQueued, status: int, headers: dict[str, str]) -> Response:
    return Response(body.model_dump_json(), status, headers=headers, media_type="application/json")
