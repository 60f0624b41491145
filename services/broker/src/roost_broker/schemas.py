"""Bodies of requests and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator

from roost_common.contracts.base import Problem
from roost_common.contracts.session import EndReason, SessionState
from roost_common.contracts.spec import MAX_HEADS, DesktopSpec, VersionNumber
from roost_common.http import ApiModel, NoId
from roost_common.security import Role

UserName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$", to_lower=True),
    NoId,
]
"""Case does not matter; kept in lower case."""
FullName = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
GroupName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}$"), NoId]
PoolName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?$"), NoId]
"""The beginning of its desktops' names, which are DNS labels."""
Reference = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00]+$")]
"""A name or an id."""
Password = Annotated[SecretStr, Field(min_length=8, max_length=256)]
Timeout = Annotated[int, Field(ge=1, le=365 * 86400)]
Count = Annotated[int, Field(ge=0, le=100_000)]


# --- identity ---------------------------------------------------------------------------------


class Token(ApiModel):
    """An access token (RFC 6749, section 5.1)."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - the name of a kind
    expires_in: int = Field(description="Seconds")


class Me(ApiModel):
    """Who asks."""

    id: UUID
    name: str
    full_name: str
    roles: list[Role]
    groups: list[str]


class UserCreate(ApiModel):
    """A new local user."""

    name: UserName
    password: Password
    full_name: FullName = ""
    roles: Annotated[list[Role], Field(min_length=1)] = [Role.USER]
    disabled: bool = False


class UserPatch(ApiModel):
    """What is to change; what is absent stays."""

    password: Password | None = None
    full_name: FullName | None = None
    roles: Annotated[list[Role], Field(min_length=1)] | None = None
    disabled: bool | None = None


class UserView(ApiModel):
    """A local user."""

    id: UUID
    name: str
    full_name: str
    roles: list[Role]
    groups: list[str]
    disabled: bool
    created_at: datetime


class GroupCreate(ApiModel):
    """A new group."""

    name: GroupName
    members: list[Reference] = Field(default=[], max_length=10_000, description="Users")


class GroupPatch(ApiModel):
    """What is to change; ``members`` replaces them all."""

    name: GroupName | None = None
    members: Annotated[list[Reference], Field(max_length=10_000)] | None = None


class GroupView(ApiModel):
    """A group and its members' names."""

    id: UUID
    name: str
    members: list[str]
    created_at: datetime


# --- pools ------------------------------------------------------------------------------------


class PoolCreate(ApiModel):
    """A new pool."""

    name: PoolName
    kind: Literal["automatic", "manual", "timed"] = "automatic"
    template: Reference
    template_version: VersionNumber | None = Field(
        default=None, description="Pinned; without it the pool follows the newest version"
    )
    min: Count = 0
    max: Annotated[int, Field(ge=1, le=100_000)] = 10
    spare: Count = 1
    max_per_user: Annotated[int, Field(ge=1, le=1000)] = 1
    spec: DesktopSpec = DesktopSpec()
    pending_timeout_s: Timeout | None = Field(
        default=None, description="A client that has not come is given up; absent: the default"
    )
    disconnect_timeout_s: Timeout | None = Field(
        default=None, description="A session without client ends; null: never"
    )

    @model_validator(mode="after")
    def _sizes(self) -> PoolCreate:
        check_sizes(self.min, self.max, self.spare)
        return self


def check_sizes(least: int, most: int, spare: int) -> None:
    """Raises ValueError unless the sizes fit together."""
    if least > most:
        raise ValueError("min is greater than max")
    if spare > most:
        raise ValueError("spare is greater than max")


class PoolPatch(ApiModel):
    """What is to change; what is absent stays."""

    template: Reference | None = None
    template_version: VersionNumber | None = Field(
        default=None, description="null: follow the newest version"
    )
    min: Count | None = None
    max: Annotated[int, Field(ge=1, le=100_000)] | None = None
    spare: Count | None = None
    max_per_user: Annotated[int, Field(ge=1, le=1000)] | None = None
    spec: DesktopSpec | None = None
    pending_timeout_s: Timeout | None = None
    disconnect_timeout_s: Timeout | None = None


class PoolCounts(ApiModel):
    """A pool's desktops."""

    total: int
    free: int
    assigned: int
    starting: int
    troubled: int


class PoolView(ApiModel):
    """A pool as it should be, and how far it is."""

    id: UUID
    name: str
    kind: str
    state: Literal["ready", "deleting"]
    template: str
    template_id: UUID
    template_version: int | None
    min: int
    max: int
    spare: int
    max_per_user: int
    spec: DesktopSpec
    pending_timeout_s: int
    disconnect_timeout_s: int | None
    revision: int
    created_at: datetime
    desktops: PoolCounts
    waiting: int = Field(description="Launches in the queue")
    problem: Problem | None = Field(description="What keeps it from being what it should be")


class EntitlementEntry(ApiModel):
    """A user, or all of a group."""

    user: Reference | None = None
    group: Reference | None = None

    @model_validator(mode="after")
    def _one(self) -> EntitlementEntry:
        if (self.user is None) == (self.group is None):
            raise ValueError("exactly one of user and group")
        return self


# --- launches and sessions --------------------------------------------------------------------


class ClientFacts(BaseModel):
    """What the client tells of itself. What broker does not know is ignored: clients differ."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00]*$")] = ""
    monitors: Annotated[int, Field(ge=1, le=MAX_HEADS)] = 1
    link: Literal["lan", "wan"] | None = None
    fullscreen: bool | None = None


ProtocolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._+-]{1,32}$", to_lower=True)]
Protocols = Annotated[list[ProtocolName], Field(max_length=8)]
"""All of them but one may be named in the sentence that a launch keeps as its reason."""


class LaunchRequest(ApiModel):
    """What is to be opened; with nothing, the only thing there is."""

    pool: Reference | None = None
    desktop: Reference | None = None
    new: bool = Field(default=False, description="Another desktop beside those already open")
    protocols: Protocols | None = None
    client: ClientFacts = ClientFacts()

    @model_validator(mode="after")
    def _one(self) -> LaunchRequest:
        if self.pool is not None and self.desktop is not None:
            raise ValueError("either a pool or a desktop")
        return self


class DesktopName(ApiModel):
    """A desktop, by both its names."""

    id: UUID
    name: str


class SpiceConnection(ApiModel):
    """How a SPICE client reaches the screen."""

    host: str
    port: int | None
    tls_port: int | None
    password: str
    ca: str
    host_subject: str


class LaunchReady(ApiModel):
    """The screen is open for this ticket."""

    launch_id: UUID
    session_id: UUID
    state: Literal["ready"] = "ready"
    desktop: DesktopName
    pool: str
    protocol: str
    reason: str
    expires_at: datetime
    spice: SpiceConnection
    html5_url: str | None = None


class LaunchQueued(ApiModel):
    """A place in the queue, and when to ask again."""

    launch_id: UUID
    state: Literal["starting", "queued"]
    position: int
    retry_after_ms: int


class ClientView(ApiModel):
    """The machine in front of the user."""

    name: str
    address: str


class SessionView(ApiModel):
    """A user's hold on a desktop."""

    id: UUID
    user: str
    pool: str
    desktop: DesktopName
    state: SessionState
    client: ClientView
    created_at: datetime
    connected_at: datetime | None
    disconnected_at: datetime | None
    ended_at: datetime | None
    end_reason: EndReason | None


class MyDesktop(ApiModel):
    """Something the caller may open."""

    kind: Literal["pool", "desktop"]
    id: UUID
    name: str
    state: Literal["connected", "disconnected", "available", "starting", "busy", "unavailable"]
    problem: Problem | None
    session: SessionView | None


def only_given(patch: ApiModel) -> dict[str, Any]:
    """The fields of a patch that were in the request."""
    return {name: getattr(patch, name) for name in patch.model_fields_set}
