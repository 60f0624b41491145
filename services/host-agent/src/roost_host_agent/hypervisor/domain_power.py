"""Starting and removing a domain, in every phase it may be in.

All of it blocks and runs in the connection's threads; the agent sees to it that no two calls for
one desktop overlap.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

import libvirt

from roost_common.contracts.desktop import EnsureDesktop
from roost_common.errors import Conflict, NotFound, Unavailable
from roost_host_agent.hypervisor import domain_xml, metadata, passage
from roost_host_agent.hypervisor.domain_facts import DomainFacts
from roost_host_agent.hypervisor.domain_reader import DomainReader, find
from roost_host_agent.hypervisor.driver import Mark
from roost_host_agent.hypervisor.host_profile import DiskCache, HostProfile
from roost_host_agent.hypervisor.migration import migrating
from roost_host_agent.hypervisor.passage import Passage
from roost_host_agent.hypervisor.spice_display import new_password

ABORT_DEADLINE_S: Final = 5.0
ABORT_POLL_S: Final = 0.05

_LIVE: Final = libvirt.VIR_DOMAIN_AFFECT_LIVE
_CONFIG: Final = libvirt.VIR_DOMAIN_AFFECT_CONFIG


class DomainPower:
    """What `Hypervisor.start` and `Hypervisor.remove` do; their docstrings say what they mean."""

    def __init__(self, reader: DomainReader, *, probe_direct_io: bool) -> None:
        self._reader = reader
        self._probe_direct_io = probe_direct_io

    def start(
        self, conn: libvirt.virConnect, wanted: EnsureDesktop, boot_id: UUID, host: HostProfile
    ) -> None:
        domain = find(conn, wanted.desktop_id)
        facts = None if domain is None else self._reader.facts(domain)
        if domain is not None and facts is None:
            raise Conflict("host.name-taken", "A domain that is not Roost's has this id.")
        if domain is not None and facts is not None and domain.isActive():
            if passage.now(domain) is not None:
                # Above all it must not be continued while it arrives.
                raise migrating()
            with _unless_it_ended(domain):
                self._go_on(conn, domain, facts, wanted, host)
                return
        if wanted.disk is not None and conn.getType() == "QEMU":
            host = self._look_at(wanted.disk.path, host)
        if domain is not None and domain.name() != domain_xml.domain_name(wanted.desktop_name):
            _undefine(conn, domain)
        domain = conn.defineXML(domain_xml.render(wanted, host, boot_id, new_password()))
        try:
            domain.create()
        except libvirt.libvirtError:
            with suppress(libvirt.libvirtError):
                # Not one that an earlier, slow start has brought up after all.
                if not domain.isActive():
                    _undefine(conn, domain)
            raise

    def _go_on(
        self,
        conn: libvirt.virConnect,
        domain: libvirt.virDomain,
        facts: DomainFacts,
        wanted: EnsureDesktop,
        host: HostProfile,
    ) -> None:
        """A running guest keeps its hardware and its run; what it is at its next start is new."""
        boot_id = facts.mark.boot_id
        conn.defineXML(domain_xml.render(wanted, host, boot_id, new_password()))
        mark = replace(
            facts.mark,
            generation=wanted.generation,
            stop_by=None,
            restart=wanted.spec.ha.restart,
        )
        write_mark(domain, mark, _LIVE)
        self._reader.forget(wanted.desktop_id)
        if domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
            domain.resume()

    def _look_at(self, path: str, host: HostProfile) -> HostProfile:
        """The profile for a disk on this file system; `NotFound` when it is not there.

        Any other trouble is left to QEMU, which meets it as its own user and is told of in full:
        a disk that cannot be read just now says nothing about O_DIRECT.
        """
        try:
            # Reading is enough to learn whether O_DIRECT is known.
            flags = os.O_RDONLY | (os.O_DIRECT if self._probe_direct_io else 0)
            os.close(os.open(path, flags))
        except FileNotFoundError:
            raise NotFound(
                "desktop.disk-missing", "There is no disk at {path}.", path=path
            ) from None
        except OSError as error:
            # open(2): the file system does not support O_DIRECT.
            if self._probe_direct_io and error.errno == errno.EINVAL:
                return replace(host, disk_cache=DiskCache.WRITEBACK)
        return host

    def remove(
        self,
        conn: libvirt.virConnect,
        desktop_id: UUID,
        generation: int,
        stop_by: datetime | None,
    ) -> None:
        with _unless_it_went():
            domain = find(conn, desktop_id)
            facts = None if domain is None else self._reader.facts(domain)
            if domain is not None and facts is not None:
                self._remove(conn, domain, facts, generation, stop_by)

    def _remove(
        self,
        conn: libvirt.virConnect,
        domain: libvirt.virDomain,
        facts: DomainFacts,
        generation: int,
        stop_by: datetime | None,
    ) -> None:
        if passage.now(domain) is Passage.LEAVING:
            _stay(domain)
        if domain.isActive() and stop_by is not None:
            mark = replace(facts.mark, generation=generation, stop_by=stop_by)
            with _unless_it_ended(domain):
                # Also for the time after it has ended, so that it is known why.
                write_mark(domain, mark, _LIVE | _CONFIG)
                self._reader.forget(facts.mark.desktop_id)
                domain.shutdown()
                return
        _destroy(domain)
        _undefine(conn, domain)


def resume(conn: libvirt.virConnect, desktop_id: UUID) -> None:
    """Continue a guest that its storage paused."""
    domain = find(conn, desktop_id)
    # Not one that a migration holds.
    if domain is not None and domain.state()[:2] == [
        libvirt.VIR_DOMAIN_PAUSED,
        libvirt.VIR_DOMAIN_PAUSED_IOERROR,
    ]:
        domain.resume()


def _stay(domain: libvirt.virDomain) -> None:
    """Give a migration up before its guest is stopped: what was to be stopped must not run on
    elsewhere."""
    with suppress(libvirt.libvirtError):
        domain.abortJob()
    end = time.monotonic() + ABORT_DEADLINE_S
    while (now := passage.now(domain)) is Passage.LEAVING and time.monotonic() < end:
        # In a thread; libvirt tells when a job has completed, not when it was aborted.
        time.sleep(ABORT_POLL_S)
    if now is not None:
        raise Unavailable("desktop.migrating", "The desktop is just being moved away.")


@contextmanager
def _unless_it_ended(domain: libvirt.virDomain) -> Iterator[None]:
    """A guest may end between two calls: then what follows the block is right for it.

    One that has shut down is active until its process is gone, and takes no orders any more.
    """
    try:
        yield
    except libvirt.libvirtError as error:
        invalid = error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID
        if not invalid or (domain.isActive() and domain.state()[0] != libvirt.VIR_DOMAIN_SHUTDOWN):
            raise


@contextmanager
def _unless_it_went() -> Iterator[None]:
    """What migrates may be gone between two calls: then there is nothing to remove any more."""
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise


def _destroy(domain: libvirt.virDomain) -> None:
    """Cut the power. A process that does not die must not be undefined: that would hide it."""
    try:
        domain.destroy()
    except libvirt.libvirtError as error:
        if error.get_error_code() not in {
            libvirt.VIR_ERR_OPERATION_INVALID,  # it does not run
            libvirt.VIR_ERR_NO_DOMAIN,
        }:
            raise


def write_mark(domain: libvirt.virDomain, mark: Mark, where: int) -> None:
    """Replace Roost's mark in the running domain, its definition, or both."""
    domain.setMetadata(
        libvirt.VIR_DOMAIN_METADATA_ELEMENT,
        metadata.to_xml(mark),
        metadata.PREFIX,
        metadata.NAMESPACE,
        where,
    )


def _undefine(conn: libvirt.virConnect, domain: libvirt.virDomain) -> None:
    """Undefine with all that libvirt keeps beside a definition.

    That includes firmware variables and the TPM's state: they belong to a run on this node, and
    what a guest must keep is on its disk.
    """
    flags = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    flags |= libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    if conn.getType() == "QEMU":  # the mock knows no others
        flags |= libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        flags |= libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_TPM
    try:
        domain.undefineFlags(flags)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
