"""``/api/v1/ha/channels`` and ``/notifications``: for administrators. Every copy answers."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Query

from roost_common import idempotency
from roost_common.clock import Clock
from roost_common.contracts.alert import Severity
from roost_common.errors import Invalid
from roost_common.http import Admin, IdempotencyKey, Page, PageQuery, Paging, encode_cursor
from roost_common.outbox import UnitOfWork
from roost_ha_monitor.notifications.courier import TRY_S
from roost_ha_monitor.notifications.model import Channel, State
from roost_ha_monitor.notifications.notice import About, Notice, Undelivered
from roost_ha_monitor.notifications.repository import Channels, Notifications
from roost_ha_monitor.notifications.schemas import ChannelView, ChannelWanted, NotificationView
from roost_ha_monitor.notifications.senders import Sender
from roost_ha_monitor.sealed import Sealer


class NotificationsApi:
    """The endpoints with what they need."""

    def __init__(
        self, unit_of_work: UnitOfWork, sealer: Sealer, sender: Sender, clock: Clock
    ) -> None:
        self._unit = unit_of_work
        self._sealer = sealer
        self._sender = sender
        self._clock = clock
        self.router = APIRouter(prefix="/api/v1/ha", tags=["notifications"])
        add = self.router.add_api_route
        add("/channels", self.list_channels, methods=["GET"])
        add("/channels", self.create_channel, methods=["POST"], status_code=201)
        add("/channels/{reference}", self.show_channel, methods=["GET"])
        add("/channels/{reference}", self.replace_channel, methods=["PUT"])
        add("/channels/{reference}", self.remove_channel, methods=["DELETE"], status_code=204)
        add("/channels/{reference}/test", self.test_channel, methods=["POST"], status_code=204)
        add("/notifications", self.list_notifications, methods=["GET"])

    async def list_channels(self, _who: Admin, paging: Paging) -> Page[ChannelView]:
        """Every channel, by name."""
        after = _one(paging)
        async with self._unit() as transaction:
            rows, total = await Channels(transaction.session).page(after, paging.limit)
        items = [ChannelView.of(channel) for channel in rows[: paging.limit]]
        more = len(rows) > paging.limit
        return Page(items=items, next=encode_cursor(items[-1].name) if more else None, total=total)

    async def create_channel(
        self, who: Admin, wanted: ChannelWanted, key: IdempotencyKey = None
    ) -> ChannelView:
        """Tell somebody else too, from the next alert on. 409 when the name is taken."""
        async with self._unit() as transaction:
            channels = Channels(transaction.session)
            channel = Channel(id=uuid4(), secrets=None)
            earlier = await idempotency.claim(
                transaction,
                actor=str(who.id),
                key=key,
                request=wanted,
                resource_id=channel.id,
                now=self._clock.now(),
            )
            if earlier is not None:
                return ChannelView.of(await channels.get(str(earlier)))
            await channels.take_name(wanted.name, channel.id)
            _fill(channel, wanted, self._sealer)
            await channels.add(channel)
            return ChannelView.of(channel)

    async def show_channel(self, _who: Admin, reference: str) -> ChannelView:
        """One channel."""
        async with self._unit() as transaction:
            return ChannelView.of(await Channels(transaction.session).get(reference))

    async def replace_channel(
        self, _who: Admin, reference: str, wanted: ChannelWanted
    ) -> ChannelView:
        """Change a channel; what waits goes where it leads now.

        Secrets that are left out stay as they are as long as they go to the same place; null
        removes one.
        """
        async with self._unit() as transaction:
            channels = Channels(transaction.session)
            channel = await channels.get(reference, lock=True)
            await channels.take_name(wanted.name, channel.id)
            _fill(channel, wanted, self._sealer)
            return ChannelView.of(channel)

    async def remove_channel(self, _who: Admin, reference: str) -> None:
        """Tell them no more, also not what waits."""
        async with self._unit() as transaction:
            channels = Channels(transaction.session)
            await channels.remove(await channels.get(reference, lock=True))

    async def test_channel(self, who: Admin, reference: str) -> None:
        """Tell something now, once, and say how it went: 503 with what the other end said."""
        async with self._unit() as transaction:
            channel = await Channels(transaction.session).get(reference)
        now = self._clock.now()
        message = f"This is a test of the channel {channel.name}, asked for by {who.name}."
        notice = Notice(
            About.TEST, 0, uuid4(), "test", channel.name, Severity.NORMAL, message, now, now
        )
        try:
            async with asyncio.timeout(TRY_S):
                await self._sender.send(channel, notice)
        except TimeoutError:
            raise Undelivered(f"it took longer than {TRY_S:.0f} s", maybe=True) from None

    async def list_notifications(
        self,
        _who: Admin,
        paging: Paging,
        state: Annotated[State | None, Query(description="Only those in this state")] = None,
        channel: Annotated[
            str | None, Query(description="Only over this channel, by id or name")
        ] = None,
        alert: Annotated[UUID | None, Query(description="Only of this alert")] = None,
    ) -> Page[NotificationView]:
        """What is to be told, and what was, newest first."""
        before = _one(paging)
        if before is not None and not (before.isascii() and before.isdigit() and len(before) < 19):
            raise Invalid("request.cursor-invalid", "This cursor was not made here.")
        async with self._unit() as transaction:
            rows, total = await Notifications(transaction.session).page(
                state=state,
                channel=channel,
                alert_id=alert,
                before=None if before is None else int(before),
                limit=paging.limit,
            )
        items = [NotificationView.of(row, name) for row, name in rows[: paging.limit]]
        more = len(rows) > paging.limit
        last = encode_cursor(str(items[-1].id)) if more else None
        return Page(items=items, next=last, total=total)


def _fill(channel: Channel, wanted: ChannelWanted, sealer: Sealer) -> None:
    channel.name = wanted.name
    channel.min_severity = wanted.min_severity
    channel.alerts = list(wanted.alerts)
    channel.repeat_after_s = wanted.repeat_after_s
    channel.lead_to(wanted.target, sealer)


def _one(paging: PageQuery) -> str | None:
    if paging.after is None:
        return None
    if len(paging.after) != 1:
        raise Invalid("request.cursor-invalid", "This cursor was not made here.")
    return paging.after[0]
