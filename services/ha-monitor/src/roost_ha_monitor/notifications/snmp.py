"""The only module that knows pysnmp: a notice as a trap or an inform.

The library comes with some ten megabytes and takes a fifth of a second to build an engine, so it
is loaded when the first notice goes out, and every notice has a thread and an event loop of its
own: the detector's never waits for it.
"""

from __future__ import annotations

import asyncio
import importlib
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, Final
from uuid import UUID

from roost_common.contracts.alert import Severity
from roost_ha_monitor.notifications.notice import About, Notice, Undelivered
from roost_ha_monitor.notifications.targets import SnmpTarget, engine_id

ROOST_MIB: Final = "1.3.6.1.4.1.32473.1"
"""ROOST-MIB's root, docs/snmp/ROOST-MIB.txt."""
TRAPS: Final = {
    About.RAISED: f"{ROOST_MIB}.0.1",
    About.REMINDER: f"{ROOST_MIB}.0.1",
    About.CLEARED: f"{ROOST_MIB}.0.2",
    About.TEST: f"{ROOST_MIB}.0.3",
}
_SEVERITIES: Final = {severity: number for number, severity in enumerate(Severity, start=1)}
_TEXT_MAX: Final = 255
"""Octets of a text, so that a notice fits into 1472 octets of UDP on Ethernet unfragmented."""

ANSWER_S: Final = 3.0
RETRIES: Final = 2
"""Of an inform, by the library, before it counts as one failed try."""
EPOCH: Final = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
"""When the SNMPv3 engines of all channels began, so that every copy tells the same engine time."""


class Snmp:
    """Sends notifications of SNMPv2c and SNMPv3."""

    async def send(self, target: SnmpTarget, notice: Notice, channel_id: UUID) -> None:
        """Raises `Undelivered`; a trap that left this machine counts as delivered."""
        await asyncio.to_thread(_in_a_loop_of_its_own, target, notice, channel_id)


def varbinds(notice: Notice) -> list[tuple[int, int | bytes]]:
    """The objects of ROOST-MIB by their last number, in the order of its NOTIFICATION-TYPEs."""
    return [
        (1, str(notice.alert_id).encode()),
        (2, _text(notice.alert)),
        (3, _text(notice.object)),
        (4, _SEVERITIES[notice.severity]),
        (5, _text(notice.message)),
        (6, date_and_time(notice.since)),
        (7, notice.number),
    ]


def date_and_time(at: datetime) -> bytes:
    """DateAndTime of SNMPv2-TC (RFC 2579): eight octets, and three that say UTC."""
    utc = at.astimezone(UTC)
    day = utc.year.to_bytes(2, "big") + bytes([utc.month, utc.day])
    return day + bytes([utc.hour, utc.minute, utc.second, utc.microsecond // 100_000]) + b"+\0\0"


def _text(text: str) -> bytes:
    return text.encode()[:_TEXT_MAX].decode(errors="ignore").encode()


def _in_a_loop_of_its_own(target: SnmpTarget, notice: Notice, channel_id: UUID) -> None:
    # uvloop's datagrams leave later than asyncio's; this loop is asyncio's own.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(_send(target, notice, channel_id))


async def _send(target: SnmpTarget, notice: Notice, channel_id: UUID) -> None:
    snmp = importlib.import_module("pysnmp.hlapi.v3arch.asyncio")
    engine = _engine(snmp, channel_id)
    transport = snmp.Udp6TransportTarget if ":" in target.host else snmp.UdpTransportTarget
    try:
        to = await transport.create((target.host, target.port), timeout=ANSWER_S, retries=RETRIES)
        failed, status, _, _ = await snmp.send_notification(
            engine,
            _credentials(snmp, target),
            to,
            snmp.ContextData(),
            "inform" if target.inform else "trap",
            _notification(snmp, notice),
            lookupMib=False,
        )
    except Exception as error:
        # The library raises errors of many families, even for what a receiver sends.
        raise Undelivered(f"it cannot be sent: {type(error).__name__}") from None
    finally:
        engine.close_dispatcher()
    if failed:
        # The library's texts name no credentials: noResponse, unknownUserName, wrongDigest …
        raise Undelivered(f"the receiver did not confirm: {failed}", maybe=True)
    if status:
        raise Undelivered(f"the receiver refuses it: {status.prettyPrint()}")


def _engine(snmp: ModuleType, channel_id: UUID) -> Any:
    """An engine that is the channel's in every copy and after every start.

    A receiver of SNMPv3 traps takes only what is newer than the newest it has seen of an engine
    (RFC 3414, 3.2): the time since one epoch grows in all copies alike, with nothing to keep.
    """
    # With an id given the constructor counts its starts in a file under /tmp.
    engine = snmp.SnmpEngine()
    builder = engine.get_mib_builder()
    own_id, boots, since = builder.import_symbols(
        "__SNMP-FRAMEWORK-MIB", "snmpEngineID", "snmpEngineBoots", "snmpEngineTime"
    )
    own_id.syntax = own_id.syntax.clone(engine_id(channel_id))
    engine.snmpEngineID = own_id.syntax
    boots.syntax = boots.syntax.clone(1)
    since.syntax = since.syntax.clone(EPOCH)
    return engine


def _credentials(snmp: ModuleType, target: SnmpTarget) -> Any:
    if target.version == "2c":
        assert target.community is not None  # noqa: S101 - checked when it was configured
        return snmp.CommunityData(target.community.get_secret_value(), mpModel=1)
    auth = {
        "sha": snmp.USM_AUTH_HMAC96_SHA,
        "sha256": snmp.USM_AUTH_HMAC192_SHA256,
        "sha512": snmp.USM_AUTH_HMAC384_SHA512,
    }
    priv = {"aes128": snmp.USM_PRIV_CFB128_AES, "aes256": snmp.USM_PRIV_CFB256_AES}
    assert target.auth_key is not None  # noqa: S101 - the same
    private = target.priv_key is not None
    return snmp.UsmUserData(
        target.user,
        target.auth_key.get_secret_value(),
        target.priv_key.get_secret_value() if target.priv_key is not None else None,
        authProtocol=auth[target.auth_protocol],
        privProtocol=priv[target.priv_protocol] if private else snmp.USM_PRIV_NONE,
    )


def _notification(snmp: ModuleType, notice: Notice) -> Any:
    types = {4: snmp.Integer32, 7: snmp.Unsigned32}
    values = [
        (f"{ROOST_MIB}.1.{number}.0", types.get(number, snmp.OctetString)(value))
        for number, value in varbinds(notice)
    ]
    return snmp.NotificationType(snmp.ObjectIdentity(TRAPS[notice.about])).add_varbinds(*values)
