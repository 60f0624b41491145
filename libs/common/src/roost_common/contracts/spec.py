"""What a desktop is made of: the hardware its users see, independent of any host."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict, Field

from roost_common.contracts.base import Body

MAX_HEADS = 4
"""QXL under Windows and Linux guests is supported with up to four heads."""
USB_REDIRECTION_CHANNELS = 4
"""What oVirt and virt-manager give a guest by default, and what users expect to plug in at once."""
VersionNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""Of a template; PostgreSQL's ``integer``, as every service keeps it."""


class OsFamily(StrEnum):
    """Which hardware profile a guest needs."""

    LINUX = "linux"
    WINDOWS_10 = "windows-10"
    WINDOWS_11 = "windows-11"
    WINDOWS_XP = "windows-xp"


class Link(StrEnum):
    """What lies between the client and the host; it chooses compression and streaming."""

    AUTO = "auto"
    """SPICE measures each client's link when it connects and compresses for slow ones."""
    LAN = "lan"
    WAN = "wan"


class DisplayPolicy(Body):
    """What a desktop's screen may do for its user."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    link: Link = Link.AUTO
    clipboard: bool = True
    file_transfer: bool = True
    usb: bool = True
    sound: bool = True


class HaPolicy(Body):
    """What becomes of a desktop whose host died."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    restart: bool = Field(default=True, description="Start it again on another host")
    priority: Annotated[int, Field(ge=0, le=100)] = 50
    """Higher ones are started first."""


class DesktopSpec(Body):
    """The virtual hardware of a desktop. The upper limits are the hosts', not this schema's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vcpus: Annotated[int, Field(ge=1, le=1024)] = 1
    memory_mib: Annotated[int, Field(ge=64, le=16 * 1024 * 1024)] = 2048
    monitors: Annotated[int, Field(ge=1, le=MAX_HEADS)] = 1
    display: DisplayPolicy = DisplayPolicy()
    ha: HaPolicy = HaPolicy()

    def amended_by(self, patch: DesktopSpec) -> DesktopSpec:
        """This spec with what ``patch`` was explicitly given; the rest stays."""
        given = patch.model_dump(exclude_unset=True)
        display = self.display.model_dump() | given.pop("display", {})
        ha = self.ha.model_dump() | given.pop("ha", {})
        whole = self.model_dump() | given | {"display": display, "ha": ha}
        return DesktopSpec.model_validate(whole)


class TemplateRef(Body):
    """One version of a template, by id and with the names a person reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: UUID
    name: str
    version: VersionNumber
    os: OsFamily = OsFamily.LINUX
