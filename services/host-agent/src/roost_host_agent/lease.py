"""The node's own lease: how long its desktops that are restarted elsewhere may run here. Pure.

::

               first grant          deadline past, and no reason to hold on
    (none) ────────────────► held ───────────────────────────────────────► over
      │                       │ ▲                                           ▲
      │ an earlier run's      └─┘ grants; peers without any                 │ for good:
      └── lease, taken over: no longer than that ───────────────────────────┘ the run ends

All times are seconds of CLOCK_BOOTTIME, which runs on while the machine sleeps, and are passed in.

A grant counts from when the beat it names was *sent*; ha-monitor counts from when it received the
last one, and adds a margin, so this side always ends first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from roost_common.contracts.host import LeaseGranted

BEATS_KEPT: Final = 1024
"""Sent beats that a grant may still name; older ones are forgotten, and their grants with them."""
GRANT_FRESH_S: Final = 5.0
"""For how long after the send time of a granted beat others are told that this node holds a grant.
Far less than the shortest lease: when the bus goes, all nodes say so long before any lease ends."""
HOLD_S: Final = 6.0
"""How long one look at the peers lets a lease go on: a few looks may be lost, and an agent that
freezes while it holds on is ended by its guard after this."""
QUIET_S: Final = 15.0
"""Peers without a grant for this long have lost the bus; for less, a grant was late."""
REJOIN_S: Final = 20.0
"""When peers are granted again after a quiet time, how long this node has to be granted, too: five
seconds between two attempts to reach the bus, ten for one that hangs, the rest for the beat and its
grant. Never longer than the lease: ha-monitor counts a whole lease and its margin from when it
hears again, so nothing of this node's has been given to anybody by then."""


class Verdict(StrEnum):
    """What `Lease.step` finds."""

    HOLD = "hold"
    """The desktops may go on."""
    EXPIRED = "expired"
    """They must not. Said again at every further step."""


@dataclass(frozen=True, slots=True)
class Peers:
    """One look at the beat files of the other nodes."""

    at: float
    """When the look began."""
    granted: bool
    """Whether any living one of them holds a grant."""
    witness: UUID
    """Of the directory that was looked at."""


@dataclass(frozen=True, slots=True)
class _Sent:
    at: float
    armed: bool
    witness: UUID | None


class Lease:
    """One run's lease.

    ``lease_s`` 0: the node has none, and grants only tell that it is heard. ``inherited`` is the
    deadline of an earlier run's lease: the desktops found at the start are under it until this
    run's first grant. It is never made longer, and when it has passed, no grant counts before
    `settled` was called.
    """

    def __init__(self, agent_id: UUID, lease_s: float, *, inherited: float | None = None) -> None:
        self._agent_id = agent_id
        self._lease_s = lease_s
        self._sent: OrderedDict[int, _Sent] = OrderedDict()
        self._inherited = inherited is not None
        self._deadline = inherited
        self._armed = False
        self._over = False
        self._heard: _Sent | None = None
        self._held_until: float | None = None
        self._quiet_since: float | None = None
        self._peers_granted_since = float("-inf")

    # --- what others ask ------------------------------------------------------------------------

    @property
    def armed(self) -> bool:
        """Whether this run holds a grant at whose end it stops desktops."""
        return self._armed

    @property
    def until(self) -> float | None:
        """Until when the desktops may run, as far as is known now; None: nothing limits them."""
        if self._deadline is None or self._held_until is None:
            return self._deadline
        return max(self._deadline, self._held_until)

    @property
    def over(self) -> bool:
        """Whether this run's own lease has ended: it must not start anything any more."""
        return self._over

    @property
    def taken_over(self) -> bool:
        """Whether the lease in force is an earlier run's."""
        return self._inherited

    @property
    def held(self) -> bool:
        """Whether it goes on for the peers' sake alone."""
        return self.until != self._deadline

    def ended(self, now: float) -> bool:
        """Whether the desktops under the lease in force must not run any more."""
        return self._has_ended(now)

    def granted_lately(self, now: float) -> bool:
        """Whether ha-monitor hears this node: what its beat file says to the others."""
        return self._heard is not None and now - self._heard.at < GRANT_FRESH_S

    # --- what happens ---------------------------------------------------------------------------

    def sent(self, sequence: int, at: float, *, armed: bool, witness: UUID | None) -> None:
        """A beat is about to be sent; ``armed`` and ``witness`` are what it says."""
        self._sent[sequence] = _Sent(at, armed, witness)
        while len(self._sent) > BEATS_KEPT:
            self._sent.popitem(last=False)

    def granted(self, grant: LeaseGranted, now: float) -> bool:
        """A grant came; whether it counts.

        It does not when it is for another run, names a beat older than one already granted or one
        never sent, comes after the end, or so late that it would end at once.

        ``armed`` false ends the lease only when the granted beat had said itself that it holds
        none: until ha-monitor has heard that, it may count on it.
        """
        beat = self._sent.get(grant.sequence)
        if grant.agent_id != self._agent_id or beat is None:
            return False
        if self._has_ended(now) or (self._lease_s > 0 and now - beat.at >= self._lease_s):
            return False
        # Older ones are forgotten, so that their grants, which come late, are none.
        for old in [known for known in self._sent if known < grant.sequence]:
            del self._sent[old]
        self._heard = beat
        self._held_until = None
        was_inherited, self._inherited = self._inherited, False
        in_force = self._deadline is not None and not was_inherited
        self._armed = grant.armed and self._lease_s > 0
        if self._armed or (in_force and beat.armed):
            self._deadline = beat.at + self._lease_s
        else:
            self._deadline = None
        return True

    def settled(self) -> None:
        """None of the desktops under an earlier run's ended lease is left."""
        if self._inherited:
            self._inherited, self._deadline = False, None

    def step(self, now: float, peers: Peers | None) -> Verdict:
        """Judge at ``now``, with the newest look at the peers.

        None: their directory cannot be read, or there is none. Then nothing is extended, and the
        lease ends when its time has come.
        """
        if peers is None:
            self._quiet_since = None  # what they did meanwhile is not known
        else:
            self._look(peers, now)
        return Verdict.EXPIRED if self._has_ended(now) else Verdict.HOLD

    # --- within ---------------------------------------------------------------------------------

    def _has_ended(self, now: float) -> bool:
        until = self.until
        if until is not None and now >= until and not self._over:
            # An earlier run's end is not this run's: it has only that one's desktops to stop.
            self._over = not self._inherited
        return self._over or (until is not None and now >= until)

    def _look(self, peers: Peers, now: float) -> None:
        if peers.granted:
            if self._quiet_since is not None and peers.at - self._quiet_since >= QUIET_S:
                self._peers_granted_since = peers.at
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = peers.at
        # What an earlier run's lease relied on is not known, so nothing makes it longer.
        relied_on = self._heard.witness if self._heard is not None else None
        if self._has_ended(now) or peers.witness != relied_on:
            return
        hold = peers.at + HOLD_S
        if peers.granted:
            hold = min(hold, self._peers_granted_since + min(REJOIN_S, self._lease_s))
        self._held_until = hold if self._deadline is not None and hold > self._deadline else None
