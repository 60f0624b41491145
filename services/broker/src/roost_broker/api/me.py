"""What the caller may open."""

from __future__ import annotations

from fastapi import APIRouter

from roost_broker.api.parts import Caller, Parts
from roost_broker.queue import reason
from roost_broker.repository.desktops import Desktops
from roost_broker.repository.pools import Pools
from roost_broker.repository.sessions import Sessions
from roost_broker.schemas import MyDesktop
from roost_broker.views import my_state, session_view

router = APIRouter(prefix="/api/v1/me", tags=["me"])


@router.get("/desktops", summary="What may I open")
async def my_desktops(parts: Parts, who: Caller) -> list[MyDesktop]:
    """The caller's pools by name; ``session`` is the one that a launch goes back to."""
    now = parts.unit_of_work.clock.now()
    async with parts.unit_of_work() as transaction:
        session = transaction.session
        pools = await Pools(session).entitled(who.id)
        pictures = await Desktops(session).pictures([(pool.id, pool.max) for pool in pools], now)
        waiting = await parts.launches(session).waiting([pool.id for pool in pools], now)
        held = await Sessions(session).open_of_user(who.id)
    latest = {known.pool_id: known for known in reversed(held)}
    answers = []
    for pool in pools:
        own, picture = latest.get(pool.id), pictures[pool.id]
        state = my_state(own, picture, waiting.get(pool.id, 0))
        answers.append(
            MyDesktop(
                kind="pool",
                id=pool.id,
                name=pool.name,
                state=state,
                problem=reason(picture) if state == "unavailable" else None,
                session=None if own is None else session_view(own),
            )
        )
    return answers
