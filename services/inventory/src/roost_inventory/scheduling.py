"""What scheduling policies decide by, and what they can say: plain values, known to everybody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator

from roost_common.contracts.base import Body
from roost_inventory.placement import Candidate, Demand, Overcommit, Policy


class ClusterPolicy(StrEnum):
    """What is done unasked with the hosts and desktops of a cluster."""

    NONE = "none"
    """Nothing is moved."""
    EVEN = "even"
    """Desktops move from hot hosts to cool ones."""
    POWER_SAVING = "power_saving"
    """Desktops are packed on few hosts; empty ones are switched off, and woken in time."""


PLACEMENT: Final = {ClusterPolicy.EVEN: Policy.SPREAD, ClusterPolicy.POWER_SAVING: Policy.PACK}
"""How a cluster's policy places desktops that start; ``none`` leaves it to the site's setting."""


class Scheduling(Body):
    """A cluster's policy with its parameters: one document, to be kept and applied by scripts.

    The high and low marks and the two minutes are oVirt's defaults for the same policies.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: ClusterPolicy = ClusterPolicy.NONE
    cpu_high_percent: Annotated[int, Field(ge=50, le=99)] = 80
    """A host that used this much of its processors, on average over the duration, is hot."""
    cpu_low_percent: Annotated[int, Field(ge=0, le=49)] = 20
    """Power saving empties hosts that use at most this, and at most the other low mark."""
    memory_high_percent: Annotated[int, Field(ge=50, le=99)] = 90
    memory_low_percent: Annotated[int, Field(ge=0, le=89)] = 50
    duration_s: Annotated[int, Field(ge=0, le=3600)] = 120
    """How long a host is measured before it counts as hot, underused or idle."""
    migrations_per_host: Annotated[int, Field(ge=1, le=16)] = 2
    """At once, from it and to it together."""
    migrations_per_cluster: Annotated[int, Field(ge=1, le=64)] = 4
    reserve_hosts: Annotated[int, Field(ge=0, le=100)] = 1
    """Power saving: so many hosts without a desktop stay awake."""
    reserve_percent: Annotated[int, Field(ge=0, le=90)] = 10
    """Power saving: so much of the room of the hosts that are awake stays free."""
    rest_s: Annotated[int, Field(ge=0, le=86400)] = 600
    """A desktop that was moved is left alone for this time."""
    awake_s: Annotated[int, Field(ge=0, le=86400)] = 900
    """A host that was woken stays awake for at least this time."""

    @model_validator(mode="after")
    def _low_is_below_high(self) -> Scheduling:
        if self.memory_low_percent >= self.memory_high_percent:
            raise ValueError("memory_low_percent must be less than memory_high_percent")
        return self


# --- what is known ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """Mean use of a host, in percent of what it has."""

    cpu_percent: float
    memory_percent: float
    measured_s: float
    """How far back its samples go, without anything having been moved since."""


class Standing(StrEnum):
    """Whether a host's room can be counted on."""

    AWAKE = "awake"
    """It takes desktops."""
    ASLEEP = "asleep"
    """Switched off on purpose, as its fence device says: it can be woken."""
    WAKING = "waking"
    """It was switched on lately: its room is on the way."""
    AWAY = "away"
    """In maintenance, in trouble, not approved, or being switched off: not to be counted on."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A host of the cluster, as its policy sees it."""

    room: Candidate
    standing: Standing = Standing.AWAKE
    load: Load | None = None
    """None while nothing recent is known."""
    domains: int | None = 0
    """How many domains its node named last, whoever's they are; None: it could not tell."""
    trouble: bool = False
    """It should be up and is not."""
    kind: str = ""
    """Running desktops go on only on a host of the same kind."""
    put_to_sleep: bool = False
    """By this policy, not by a person."""
    awake_since: datetime | None = None
    empty_since: datetime | None = None
    """Since when no desktop is assigned to it."""
    emptied_at: datetime | None = None
    """When power saving last moved a desktop off it."""
    refused_at: datetime | None = None
    """When it could not be switched."""

    @property
    def name(self) -> str:
        """The node's."""
        return self.room.name


@dataclass(frozen=True, kw_only=True)
class Guest:
    """A desktop that is assigned to a host of the cluster."""

    id: UUID
    name: str
    host: str
    vcpus: int
    memory_mib: int
    """Both as reserved on its host."""
    steady: bool = True
    """It runs as it should and nothing else is under way with it."""
    cpu_percent: float = 0.0
    """Of its vCPUs."""
    memory_used_mib: int = 0
    """0 where it is not known."""
    in_use: bool = False
    """Somebody is connected to it."""
    moved_at: datetime | None = None
    moving_to: str | None = None

    @property
    def demand(self) -> Demand:
        """The room it takes."""
        return Demand(self.vcpus, self.memory_mib)

    @property
    def copy_mib(self) -> int:
        """Memory that a migration has to copy; all of it where its use is not known."""
        return min(self.memory_used_mib, self.memory_mib) or self.memory_mib


@dataclass(frozen=True)
class Waiting:
    """A desktop that should run and has found no room."""

    name: str
    demand: Demand


@dataclass(frozen=True, kw_only=True)
class View:
    """All that the decision depends on, but for the time."""

    scheduling: Scheduling
    overcommit: Overcommit
    members: Sequence[Member]
    guests: Sequence[Guest] = ()
    waiting: Sequence[Waiting] = ()
    """Desktops that fit on no host which is awake, of whatever cluster."""


# --- what is decided --------------------------------------------------------------------------


@dataclass(frozen=True)
class Migrate:
    """Move a desktop."""

    desktop_id: UUID
    desktop: str
    from_host: str
    to_host: str
    reason: str
    empties: bool = False
    """It is moved so that its host can be switched off."""


@dataclass(frozen=True)
class PowerOff:
    """Switch a host off that carries nothing."""

    host: str
    reason: str


@dataclass(frozen=True)
class PowerOn:
    """Wake a host."""

    host: str
    reason: str


Action = Migrate | PowerOff | PowerOn


@dataclass(frozen=True)
class Plan:
    """What is to be done now, in this order."""

    actions: tuple[Action, ...] = ()
    notes: tuple[str, ...] = ()
    """What keeps it from doing more, in words."""
    unserved: tuple[Waiting, ...] = ()
    """Desktops that no host of this cluster, awake or woken, will have room for."""
