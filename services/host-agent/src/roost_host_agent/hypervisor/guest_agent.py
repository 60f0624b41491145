"""What the guest agent inside a desktop tells.

All functions block: they belong in threads of their own, so that no silent guest holds up a call
for another desktop.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import libvirt
import libvirt_qemu

from roost_common.contracts.desktop import GuestInfo

ANSWER_S: Final = 5
"""How long one command may take inside the guest."""
APPLICATIONS_FILE: Final = "/var/lib/roost/applications"
"""One ``name version`` per line, kept up to date by the image: see ``docs/templates.md``."""
WINDOWS_APPLICATIONS_FILE: Final = r"C:\ProgramData\Roost\applications"
WINDOWS: Final = "mswindows"
"""``os.id`` of a Windows guest (QEMU guest agent, ``guest-get-osinfo``)."""
APPLICATIONS_MAX_BYTES: Final = 64 * 1024
_WANTED: Final = (
    libvirt.VIR_DOMAIN_GUEST_INFO_OS
    | libvirt.VIR_DOMAIN_GUEST_INFO_USERS
    | libvirt.VIR_DOMAIN_GUEST_INFO_HOSTNAME
    | libvirt.VIR_DOMAIN_GUEST_INFO_INTERFACES
)


def ask(domain: libvirt.virDomain) -> GuestInfo:
    """Everything at once. Raises `libvirtError` when the agent does not answer."""
    domain.agentSetResponseTimeout(ANSWER_S, 0)
    try:
        answers = domain.guestInfo(_WANTED, 0)
    except libvirt.libvirtError as error:
        if error.get_error_code() in {
            libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
            libvirt.VIR_ERR_OPERATION_TIMEOUT,
            libvirt.VIR_ERR_OPERATION_INVALID,
        }:
            raise
        # An old agent lacks one of the commands: take what it has.
        answers = domain.guestInfo(0, 0)
    applications: tuple[str, ...] = ()
    with suppress(libvirt.libvirtError):
        # Most guests have no such file.
        applications = _lines(_read(domain, applications_file(answers)))
    return from_answers(answers, applications)


def applications_file(answers: Mapping[str, Any]) -> str:
    """Where a guest of this kind lists its applications. Pure."""
    return WINDOWS_APPLICATIONS_FILE if answers.get("os.id") == WINDOWS else APPLICATIONS_FILE


def from_answers(answers: Mapping[str, Any], applications: tuple[str, ...]) -> GuestInfo:
    """libvirt's typed parameters (``virDomainGetGuestInfo``) as ours. Pure."""
    users = {
        str(answers[f"user.{index}.name"])
        for index in range(int(answers.get("user.count", 0)))
        if f"user.{index}.name" in answers
    }
    return GuestInfo(
        os=str(answers.get("os.pretty-name") or answers.get("os.name") or ""),
        kernel=str(answers.get("os.kernel-release", "")),
        hostname=str(answers.get("hostname", "")),
        addresses=_addresses(answers),
        users=tuple(sorted(users)),
        applications=applications,
    )


def _addresses(answers: Mapping[str, Any]) -> tuple[str, ...]:
    """Where the guest can be reached: neither loopback nor link-local addresses."""
    found = []
    for index in range(int(answers.get("if.count", 0))):
        for number in range(int(answers.get(f"if.{index}.addr.count", 0))):
            address = str(answers.get(f"if.{index}.addr.{number}.addr", ""))
            local = address.startswith(("127.", "169.254.", "fe80:")) or address in {"", "::1"}
            if not local:
                found.append(address)
    return tuple(found)


def _read(domain: libvirt.virDomain, path: str) -> bytes:
    handle = _command(domain, "guest-file-open", path=path, mode="r")
    try:
        reply = _command(domain, "guest-file-read", handle=handle, count=APPLICATIONS_MAX_BYTES)
    finally:
        _command(domain, "guest-file-close", handle=handle)
    return base64.b64decode(reply["buf-b64"])


def _lines(content: bytes) -> tuple[str, ...]:
    lines = (line.strip() for line in content.decode(errors="replace").splitlines())
    return tuple(line for line in lines if line)


def _command(domain: libvirt.virDomain, name: str, **arguments: Any) -> Any:
    text = json.dumps({"execute": name, "arguments": arguments})
    return json.loads(libvirt_qemu.qemuAgentCommand(domain, text, ANSWER_S, 0))["return"]
