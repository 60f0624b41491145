"""Sessions: who holds which desktop."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Query, Response

from roost_broker.api.parts import Broker, Caller, Parts
from roost_broker.model import Session
from roost_broker.repository.sessions import Sessions
from roost_broker.schemas import Reference, SessionView
from roost_broker.views import session_view
from roost_common.contracts.session import EndReason, SessionState
from roost_common.errors import NotFound
from roost_common.http import Page, Paging, encode_cursor
from roost_common.lookup import named
from roost_common.security import Identity

router = APIRouter(prefix="/api/v1/sessions", tags=["sessions"])


@router.get("", summary="Sessions")
async def list_sessions(
    *,
    parts: Parts,
    who: Caller,
    paging: Paging,
    state: Annotated[list[SessionState] | None, Query()] = None,
    pool: Annotated[Reference | None, Query()] = None,
    user: Annotated[Reference | None, Query()] = None,
) -> Page[SessionView]:
    """The caller's own, newest first; everybody's for an administrator."""
    conditions: list[sa.ColumnElement[bool]] = []
    if not who.is_admin:
        conditions.append(Session.user_id == who.id)
    if state:
        conditions.append(Session.state.in_([one.value for one in state]))
    if pool is not None:
        conditions.append(named(Session.pool_id, Session.pool_name, pool))
    if user is not None:
        conditions.append(named(Session.user_id, Session.user_name, user.lower()))
    async with parts.unit_of_work() as transaction:
        found, total = await Sessions(transaction.session).page(paging, *conditions)
    more, found = len(found) > paging.limit, found[: paging.limit]
    cursor = encode_cursor(found[-1].created_at.isoformat(), str(found[-1].id)) if more else None
    return Page(items=[session_view(one) for one in found], next=cursor, total=total)


@router.get("/{session_id}", summary="One session")
async def get_session(parts: Parts, who: Caller, session_id: UUID) -> SessionView:
    """The caller's own, or anybody's for an administrator."""
    return session_view(await _own(parts, who, session_id))


@router.delete("/{session_id}", status_code=204, summary="Log off")
async def end_session(parts: Parts, who: Caller, session_id: UUID) -> Response:
    """The screen goes dark, the desktop is reset; a session that has ended stays so."""
    await _own(parts, who, session_id)
    async with parts.unit_of_work() as transaction:
        await parts.ending.end(transaction, session_id, EndReason.LOGGED_OFF)
    return Response(status_code=204)


@router.post("/{session_id}/disconnect", status_code=202, summary="Cut off the client")
async def disconnect(parts: Parts, who: Caller, session_id: UUID) -> Response:
    """The desktop stays the user's; the ticket that opened it is worth nothing any more."""
    await _own(parts, who, session_id)
    async with parts.unit_of_work() as transaction:
        await parts.ending.cut_off(transaction, session_id)
    return Response(status_code=202, headers={"Location": f"{router.prefix}/{session_id}"})


async def _own(parts: Broker, who: Identity, session_id: UUID) -> Session:
    async with parts.unit_of_work() as transaction:
        session = await Sessions(transaction.session).get(session_id)
    if session.user_id != who.id and not who.is_admin:
        raise NotFound("session.unknown", "There is no session {session}.", session=session_id)
    return session
