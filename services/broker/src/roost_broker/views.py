"""Answers made from rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from uuid import UUID

from roost_broker.launch import Queued, Ready
from roost_broker.model import Group, Pool, Session, User
from roost_broker.queue import Outlook, Picture, outlook, reason
from roost_broker.schemas import (
    ClientView,
    DesktopName,
    GroupView,
    LaunchQueued,
    LaunchReady,
    PoolCounts,
    PoolView,
    SessionView,
    SpiceConnection,
    UserView,
)
from roost_broker.vv import Screen
from roost_common.contracts.session import EndReason, SessionState
from roost_common.security import Role

MyState = Literal["connected", "disconnected", "available", "starting", "busy", "unavailable"]


def user_view(user: User, groups: Sequence[str]) -> UserView:
    """A user without anything secret."""
    return UserView(
        id=user.id,
        name=user.name,
        full_name=user.full_name,
        roles=[Role(role) for role in user.roles],
        groups=list(groups),
        disabled=user.disabled,
        created_at=user.created_at,
    )


def group_view(group: Group, members: Sequence[str]) -> GroupView:
    """A group with its members."""
    return GroupView(
        id=group.id, name=group.name, members=list(members), created_at=group.created_at
    )


def pool_view(pool: Pool, picture: Picture, *, template: str, waiting: int) -> PoolView:
    """A pool as it should be and as it is."""
    return PoolView(
        id=pool.id,
        name=pool.name,
        kind=pool.kind,
        state="deleting" if pool.deleting else "ready",
        template=template,
        template_id=pool.template_id,
        template_version=pool.template_version,
        min=pool.min,
        max=pool.max,
        spare=pool.spare,
        max_per_user=pool.max_per_user,
        spec=pool.hardware,
        pending_timeout_s=pool.pending_timeout_s,
        disconnect_timeout_s=pool.disconnect_timeout_s,
        revision=pool.revision,
        created_at=pool.created_at,
        desktops=PoolCounts(
            total=picture.total,
            free=picture.free,
            assigned=picture.assigned,
            starting=picture.coming,
            troubled=picture.troubled,
        ),
        waiting=waiting,
        problem=reason(picture),
    )


def session_view(session: Session) -> SessionView:
    """A session."""
    return SessionView(
        id=session.id,
        user=session.user_name,
        pool=session.pool_name,
        desktop=DesktopName(id=session.desktop_id, name=session.desktop_name),
        state=SessionState(session.state),
        client=ClientView(name=session.client_name, address=session.client_address),
        created_at=session.created_at,
        connected_at=session.connected_at,
        disconnected_at=session.disconnected_at,
        ended_at=session.ended_at,
        end_reason=None if session.end_reason is None else EndReason(session.end_reason),
    )


def my_state(session: Session | None, picture: Picture, waiting: int) -> MyState:
    """What a user sees beside the name of a pool before opening it."""
    if session is not None:
        return "connected" if session.state == SessionState.ACTIVE else "disconnected"
    states: dict[Outlook, MyState] = {
        Outlook.FREE: "available",
        Outlook.STARTING: "starting",
        Outlook.QUEUED: "starting",
        Outlook.EXHAUSTED: "busy",
        Outlook.TROUBLED: "unavailable",
    }
    return states[outlook(waiting + 1, picture)]


def launch_ready(ready: Ready) -> LaunchReady:
    """The connection, as JSON has it."""
    granted, ticket = ready.granted, ready.ticket
    return LaunchReady(
        launch_id=granted.launch_id,
        session_id=granted.session_id,
        desktop=DesktopName(id=granted.place.desktop_id, name=granted.place.name),
        pool=granted.pool,
        protocol="spice",
        reason=granted.reason,
        expires_at=ready.expires_at,
        spice=SpiceConnection(
            host=ticket.spice.host,
            port=ticket.spice.port,
            tls_port=ticket.spice.tls_port,
            password=ticket.password.get_secret_value(),
            ca=ticket.ca,
            host_subject=ticket.host_subject,
        ),
    )


def launch_queued(queued: Queued) -> LaunchQueued:
    """The place in the queue."""
    return LaunchQueued(
        launch_id=queued.launch_id,
        state="starting" if queued.starting else "queued",
        position=queued.position,
        retry_after_ms=queued.retry_after_ms,
    )


def screen(ready: Ready, *, usb_filter: str, versions: str, newer_version_url: str) -> Screen:
    """What the .vv file is made of."""
    granted, ticket = ready.granted, ready.ticket
    session_id: UUID = granted.session_id
    return Screen(
        session_id=session_id,
        title=f"{granted.place.name} - Roost",
        host=ticket.spice.host,
        port=ticket.spice.port,
        tls_port=ticket.spice.tls_port,
        password=ticket.password.get_secret_value(),
        ca=ticket.ca,
        host_subject=ticket.host_subject,
        fullscreen=granted.client.fullscreen,
        usb=granted.usb,
        usb_filter=usb_filter,
        thin_link=granted.client.thin_link,
        versions=versions,
        newer_version_url=newer_version_url,
    )
