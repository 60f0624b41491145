"""What the guest agent inside a desktop tells.

All functions block: they belong in threads of their own, so that no silent guest holds up a call
for another desktop.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

import libvirt
import libvirt_qemu

from roost_common.contracts.desktop import GuestInfo
from roost_common.errors import Unavailable

ANSWER_S: Final = 5
"""How long one command may take inside the guest."""
APPLICATIONS_FILE: Final = "/var/lib/roost/applications"
"""One ``name version`` per line, kept up to date by the image: see ``docs/templates.md``."""
WINDOWS_APPLICATIONS_FILE: Final = r"C:\ProgramData\Roost\applications"
WINDOWS: Final = "mswindows"
"""``os.id`` of a Windows guest (QEMU guest agent, ``guest-get-osinfo``)."""
APPLICATIONS_MAX_BYTES: Final = 64 * 1024
"""Asked for, and kept: an agent that sends more than it was asked for is not believed."""
TEXT_MAX: Final = 256
"""Characters kept of one name. A host name has at most 253, and longer ones of applications are
no use in a table; without a limit one guest could swell every report of its node."""
APPLICATIONS_MAX: Final = 4096
"""More than a full desktop system has in packages."""
USERS_MAX: Final = 256
ADDRESSES_MAX: Final = 256
"""Far more than a desktop has; a guest that makes up thousands does not fill the report."""
# None of these may get any further: PostgreSQL's JSONB refuses NUL, lone surrogates are no UTF-8,
# and the other control characters act on whoever reads them in a terminal or a log. Those that part
# words become spaces.
_CONTROLS: Final = (*range(0x20), *range(0x7F, 0xA0))
_SURROGATES: Final = range(0xD800, 0xE000)
_CLEAN: Final[Mapping[int, str | None]] = {
    **dict.fromkeys((*_CONTROLS, *_SURROGATES)),
    **dict.fromkeys(map(ord, "\t\n\v\f\r"), " "),
}
_NONSENSE: Final = (ValueError, LookupError, TypeError, RecursionError)
"""What comes of taking an answer apart that is not made as QEMU's protocol says: whoever rules the
guest answers as he likes, and that must be no more than the guest's own loss."""
_WANTED: Final = (
    libvirt.VIR_DOMAIN_GUEST_INFO_OS
    | libvirt.VIR_DOMAIN_GUEST_INFO_USERS
    | libvirt.VIR_DOMAIN_GUEST_INFO_HOSTNAME
    | libvirt.VIR_DOMAIN_GUEST_INFO_INTERFACES
)


def ask(domain: libvirt.virDomain) -> GuestInfo:
    """Everything at once. Raises `libvirtError` when the agent does not answer, and `Unavailable`
    when what it answers is no text."""
    domain.agentSetResponseTimeout(ANSWER_S, 0)
    try:
        answers = _answers(domain)
    except UnicodeDecodeError:
        raise Unavailable("host.guest-garbled", "The guest's answers are no text.") from None
    applications: tuple[str, ...] = ()
    with suppress(libvirt.libvirtError, *_NONSENSE):
        # Most guests have no such file.
        applications = _lines(_read(domain, applications_file(answers)))
    return from_answers(answers, applications)


def _answers(domain: libvirt.virDomain) -> Mapping[str, Any]:
    answers: Mapping[str, Any]
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
    return answers


def applications_file(answers: Mapping[str, Any]) -> str:
    """Where a guest of this kind lists its applications. Pure."""
    return WINDOWS_APPLICATIONS_FILE if answers.get("os.id") == WINDOWS else APPLICATIONS_FILE


def from_answers(answers: Mapping[str, Any], applications: tuple[str, ...]) -> GuestInfo:
    """libvirt's typed parameters (``virDomainGetGuestInfo``) as ours, every text and list of it
    cleaned and cut. Pure."""
    users = _texts(
        answers.get(f"user.{index}.name", "") for index in range(int(answers.get("user.count", 0)))
    )
    return GuestInfo(
        os=_text(answers.get("os.pretty-name") or answers.get("os.name") or ""),
        kernel=_text(answers.get("os.kernel-release", "")),
        hostname=_text(answers.get("hostname", "")),
        addresses=_addresses(answers)[:ADDRESSES_MAX],
        users=tuple(sorted(set(users)))[:USERS_MAX],
        applications=_texts(applications)[:APPLICATIONS_MAX],
    )


def _text(said: object) -> str:
    """One text of a guest's, fit to be passed on."""
    return str(said).translate(_CLEAN).strip()[:TEXT_MAX].rstrip()


def _texts(said: Iterable[object]) -> tuple[str, ...]:
    """Of several texts those of which something is left."""
    return tuple(text for each in said if (text := _text(each)))


def _addresses(answers: Mapping[str, Any]) -> tuple[str, ...]:
    """Where the guest can be reached: neither loopback nor link-local addresses."""
    found = _texts(
        answers.get(f"if.{index}.addr.{number}.addr", "")
        for index in range(int(answers.get("if.count", 0)))
        for number in range(int(answers.get(f"if.{index}.addr.count", 0)))
    )
    return tuple(
        address
        for address in found
        if not address.startswith(("127.", "169.254.", "fe80:")) and address != "::1"
    )


def _read(domain: libvirt.virDomain, path: str) -> bytes:
    handle = _command(domain, "guest-file-open", path=path, mode="r")
    try:
        reply = _command(domain, "guest-file-read", handle=handle, count=APPLICATIONS_MAX_BYTES)
    finally:
        _command(domain, "guest-file-close", handle=handle)
    return base64.b64decode(reply["buf-b64"])


def _lines(content: bytes) -> tuple[str, ...]:
    return tuple(content[:APPLICATIONS_MAX_BYTES].decode(errors="replace").splitlines())


def _command(domain: libvirt.virDomain, name: str, **arguments: Any) -> Any:
    text = json.dumps({"execute": name, "arguments": arguments})
    return json.loads(libvirt_qemu.qemuAgentCommand(domain, text, ANSWER_S, 0))["return"]
