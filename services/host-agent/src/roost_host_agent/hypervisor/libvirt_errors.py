"""libvirt's errors as ours; nowhere else is a `libvirtError` understood.

libvirt has a code for what the caller did wrong, but reports most of what QEMU says as "internal
error" with QEMU's own words in the text, so some of them have to be recognised by those.
"""

from __future__ import annotations

import re
from typing import Final

import libvirt

from roost_common.errors import (
    Conflict,
    Invalid,
    NoCapacity,
    NotFound,
    RoostError,
    Unavailable,
)
from roost_host_agent.hypervisor.driver import not_running, outage
from roost_host_agent.hypervisor.migration import cancelled, failed, unreachable

_CONNECTION: Final = frozenset(
    {
        libvirt.VIR_ERR_NO_CONNECT,
        libvirt.VIR_ERR_INVALID_CONN,
        libvirt.VIR_ERR_RPC,
        libvirt.VIR_ERR_AUTH_FAILED,
        libvirt.VIR_ERR_AUTH_UNAVAILABLE,
        libvirt.VIR_ERR_AUTH_CANCELLED,
    }
)
_BUSY: Final = frozenset(
    {
        libvirt.VIR_ERR_OPERATION_TIMEOUT,
        libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
        libvirt.VIR_ERR_AGENT_UNSYNCED,
        libvirt.VIR_ERR_RESOURCE_BUSY,
    }
)
_UNSUPPORTED: Final = frozenset(
    {
        libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
        libvirt.VIR_ERR_NO_SUPPORT,
        libvirt.VIR_ERR_XML_ERROR,
        libvirt.VIR_ERR_XML_DETAIL,
        libvirt.VIR_ERR_XML_INVALID_SCHEMA,
        libvirt.VIR_ERR_INVALID_ARG,
        libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
        libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
        libvirt.VIR_ERR_UNKNOWN_HOST,
    }
)
_LOCKED: Final = re.compile(r'Failed to get (shared )?"\w+" lock')
_DISK_MISSING: Final = re.compile(
    r"Cannot access (storage|backing) file|Could not open '[^']*': No such file"
)
_RESOURCES: Final = re.compile(
    r"[Cc]annot allocate memory|out of memory|cannot set up guest memory"
    r"|Unable to find an unused port|No space left on device"
)
_NAME_TAKEN: Final = re.compile(r"domain '[^']*' (is )?already (exists|defined) with uuid")
_NO_WAY: Final = re.compile(
    r"[Ff]ailed to connect to remote libvirt|unable to connect to server|No route to host"
    r"|Lost connection to destination host|client socket is closed|Connection re(fused|set)"
)
_QEMU: Final = re.compile(r"process exited while connecting to monitor|unable to execute QEMU")
_BEFORE_QEMUS_WORDS: Final = re.compile(r"^.*?qemu-system-\S+: ", re.DOTALL)


def translate(error: libvirt.libvirtError) -> RoostError:
    """What an error of libvirt means to Roost.

    What is not recognised is `Unavailable`: it may be better next time, and the log names it.
    """
    code, text = error.get_error_code(), (error.get_error_message() or str(error)).strip()
    found = _by_text(text) or _by_code(code, text)
    if found is not None:
        return found
    if error.get_error_domain() == libvirt.VIR_FROM_RPC:
        return outage()
    return Unavailable("host.libvirt-trouble", "{reason}", reason=text)


def translate_migration(error: libvirt.libvirtError, target: str) -> RoostError:
    """What an error of a migration means, when this node's libvirtd itself is there.

    Codes and domains of errors may be the target's, so the text comes first.
    """
    code, text = error.get_error_code(), (error.get_error_message() or str(error)).strip()
    if code == libvirt.VIR_ERR_OPERATION_ABORTED or "canceled by client" in text:
        return cancelled()
    if _NO_WAY.search(text):
        return unreachable(target, text)
    if code == libvirt.VIR_ERR_NO_DOMAIN or "domain is not running" in text:
        return not_running()
    return failed(_last_words(text))


def _by_text(text: str) -> RoostError | None:
    if _LOCKED.search(text):
        return Conflict("desktop.disk-locked", "The desktop's disk is in use elsewhere.")
    if _DISK_MISSING.search(text):
        return NotFound("desktop.disk-missing", "{reason}", reason=text)
    if _RESOURCES.search(text):
        return NoCapacity("host.resources", "{reason}", reason=_last_words(text))
    if "domain is not running" in text:
        return not_running()
    if _NAME_TAKEN.search(text):
        return Conflict("host.name-taken", "{reason}", reason=text)
    return None


def _by_code(code: int, text: str) -> RoostError | None:
    if code in _CONNECTION:
        return outage()
    if code == libvirt.VIR_ERR_NO_DOMAIN:
        return NotFound("desktop.not-found", "The desktop is not on this host.")
    if code in _BUSY:
        return Unavailable("host.libvirt-busy", "{reason}", reason=text)
    if code in _UNSUPPORTED:
        return Invalid("host.unsupported", "{reason}", reason=text)
    if _QEMU.search(text):
        return Conflict("desktop.start-failed", "{reason}", reason=_last_words(text))
    return None


def _last_words(text: str) -> str:
    """QEMU's own words without the time and the program's name before them."""
    return _BEFORE_QEMUS_WORDS.sub("", text).strip() or text
