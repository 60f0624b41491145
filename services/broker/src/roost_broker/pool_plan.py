"""What a pool has to do next: pure, from what it should be and what its desktops are.

The pool keeps ``spare`` desktops free, and one more for everybody who waits; it never has fewer
than ``min`` and never more than ``max``, counting those that are still leaving. Desktops of
yesterday's template or hardware are replaced while nobody uses them, a few at a time. What was
asked for and did not happen is asked for again, ever more slowly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from roost_broker.phase import SILENT_HOST, Phase, site_wide
from roost_common.contracts.desktop import DesktopState

FIRST_BACKOFF: Final = timedelta(seconds=5)
LONGEST_BACKOFF: Final = timedelta(seconds=60)
MENDED_AFTER: Final = timedelta(minutes=2)
"""Longer than inventory's own retries of a start need to get over a passing trouble."""
UNHEARD: Final = timedelta(minutes=5)
"""Longer than anything takes to come: news of it may be lost. Asking again brings them."""
CREATED_AT_ONCE: Final = 50
"""Desktops asked for in one pass; the next pass follows at once."""


@dataclass(frozen=True)
class Wish:
    """What a pool should be."""

    name: str
    min: int
    max: int
    spare: int
    shrink_after: timedelta
    makeable: bool = True
    """False while its template is not there: nothing new is made, nothing is replaced."""
    deleting: bool = False


@dataclass(frozen=True)
class Member:
    """One desktop of the pool."""

    id: object
    name: str
    phase: Phase
    since: datetime
    """When it came into this phase."""
    state: DesktopState | None = None
    """None until inventory has said anything about it."""
    disk_generation: int = 1
    wanted_generation: int = 1
    template_current: bool = True
    spec_current: bool = True
    problem: str = ""
    commanded_at: datetime | None = None
    tries: int = 0


@dataclass(frozen=True)
class Create:
    """Make a new desktop of this name."""

    name: str


@dataclass(frozen=True)
class AskAgain:
    """Inventory has not made it yet: send the same request once more."""

    id: object


@dataclass(frozen=True)
class Start:
    """It is to run. It is clean and does not; or it has not come, nobody knows why, and the answer
    says how it is."""

    id: object


@dataclass(frozen=True)
class Reimage:
    """Give it a fresh disk of the pool's present template, as this generation."""

    id: object
    generation: int


@dataclass(frozen=True)
class Delete:
    """Take it away."""

    id: object


Action = Create | AskAgain | Start | Reimage | Delete


def plan(pool: Wish, members: Sequence[Member], waiting: int, now: datetime) -> list[Action]:
    """At most one action for each desktop, and what is to be made anew.

    ``waiting`` is how many launches wait for a desktop of this pool.
    """
    if pool.deleting:
        return [
            Delete(member.id)
            for member in members
            if member.phase is not Phase.REFUSED
            and (member.phase is not Phase.LEAVING or _due(member, now))
        ]
    actions: dict[object, Action] = {}
    for member in members:
        action = _repeat(member, now)
        if action is not None:
            actions[member.id] = action
    for action in _shrink(pool, members, waiting, now):
        actions[action.id] = action
    if pool.makeable:
        gone = {key for key, action in actions.items() if isinstance(action, Delete)}
        staying = [member for member in members if member.id not in gone]
        for replacement in _replace(pool, staying, now):
            actions[replacement.id] = replacement
    leaving = sum(isinstance(action, Delete) for action in actions.values())
    return [*actions.values(), *_grow(pool, members, waiting, now, busy=leaving > 0)]


def backoff(tries: int) -> timedelta:
    """How long to wait for the effect of a command given ``tries`` times."""
    doubled: int = 1 << min(max(tries - 1, 0), 10)
    return min(LONGEST_BACKOFF, FIRST_BACKOFF * doubled)


def blocked(
    troubles: Iterable[str], refusals: Sequence[tuple[str, datetime]], now: datetime
) -> str:
    """The code of a problem that one more desktop would meet as well, or nothing.

    ``troubles`` are the codes of the desktops in trouble, ``refusals`` code and time of each
    desktop that was not made.
    """
    for code in troubles:
        if site_wide(code):
            return code
    serious = [(at, code) for code, at in refusals if not name_taken(code)]
    if serious:
        at, code = max(serious)
        if now - at < backoff(len(serious)):
            return code
    return ""


def name_taken(code: str) -> bool:
    """Whether a refusal was about the name alone, so that another name will do."""
    return code.endswith("name-taken")


def _due(member: Member, now: datetime) -> bool:
    return member.commanded_at is None or now - member.commanded_at >= backoff(member.tries)


def _repeat(member: Member, now: datetime) -> Action | None:
    """What was asked of a desktop and has not happened."""
    action: Action | None = None
    if member.phase is Phase.LEAVING:
        action = Delete(member.id)
    elif member.phase in (Phase.COMING, Phase.TROUBLED):
        if member.state is None:
            action = AskAgain(member.id)
        elif member.wanted_generation > member.disk_generation:
            action = Reimage(member.id, member.wanted_generation)
        elif member.state is DesktopState.STOPPED or now - member.since >= UNHEARD:
            action = Start(member.id)
    return action if _due(member, now) else None


def _count(members: Sequence[Member], *phases: Phase) -> int:
    return sum(member.phase in phases for member in members)


def _supply(members: Sequence[Member]) -> int:
    """Desktops that are or will be free without another one being made.

    Site-wide trouble passes for all at once. A desktop in trouble of its own is no promise.
    """
    return sum(
        member.phase in (Phase.FREE, Phase.COMING)
        or (member.phase is Phase.TROUBLED and site_wide(member.problem))
        for member in members
    )


def _shrink(pool: Wish, members: Sequence[Member], waiting: int, now: datetime) -> Iterator[Delete]:
    """Desktops too many: at once above ``max``, after some idle time above ``spare``."""
    total = _count(members, Phase.FREE, Phase.COMING, Phase.TROUBLED, Phase.ASSIGNED)
    idle = [m for m in members if m.phase in (Phase.FREE, Phase.COMING, Phase.TROUBLED)]
    idle.sort(key=_least_wanted)
    above_max = max(0, total - pool.max)
    surplus = min(len(idle) - pool.spare - waiting, total - pool.min)
    for number, member in enumerate(idle):
        if number < above_max or (number < surplus and now - member.since >= pool.shrink_after):
            yield Delete(member.id)


def _least_wanted(member: Member) -> tuple[int, bool, int, str]:
    order = {Phase.TROUBLED: 0, Phase.COMING: 1, Phase.FREE: 2}
    current = member.spec_current and member.template_current
    # Of equals the highest number goes: longer names first, then by name, downwards.
    return (
        order[member.phase],
        current,
        -len(member.name),
        "".join(chr(0x10FFFF - ord(c)) for c in member.name),
    )


def _replace(pool: Wish, members: Sequence[Member], now: datetime) -> Iterator[Reimage | Delete]:
    """Outdated desktops that nobody uses, a tenth of the pool at a time."""
    for member in members:
        if member.phase is Phase.TROUBLED and _due(member, now):
            if not member.spec_current:
                yield Delete(member.id)
            elif member.state is not None and (
                not member.template_current or _ails_itself(member, now)
            ):
                yield _renewed(member)
        elif (
            member.phase is Phase.COMING
            and not member.spec_current
            and member.wanted_generation > member.disk_generation
        ):
            # It is being reset for hardware that nobody wants any more.
            yield Delete(member.id)
    free = [member for member in members if member.phase is Phase.FREE]
    outdated = [m for m in free if not (m.spec_current and m.template_current)]
    changing = _count(members, Phase.COMING, Phase.LEAVING)
    batch = max(1, pool.max // 10) - changing
    # The last free one stays until a new one is there, where the pool has room for that.
    room = len([m for m in members if m.phase is not Phase.REFUSED]) < pool.max
    may_take = min(batch, len(free) - (1 if room else 0))
    for member in outdated[: max(0, may_take)]:
        yield Delete(member.id) if not member.spec_current else _renewed(member)


def _ails_itself(member: Member, now: datetime) -> bool:
    """Whether its trouble is its own and lasts: a lost or broken overlay is mended by a new one."""
    own = not site_wide(member.problem) and member.problem != SILENT_HOST.code
    return own and now - member.since >= MENDED_AFTER


def _renewed(member: Member) -> Reimage:
    return Reimage(member.id, max(member.disk_generation + 1, member.wanted_generation))


def _held_back(members: Sequence[Member], now: datetime) -> bool:
    """Whether more desktops would end like those that are in trouble."""
    troubled = [member for member in members if member.phase is Phase.TROUBLED]
    refused = [(m.problem, m.since) for m in members if m.phase is Phase.REFUSED]
    if blocked((member.problem for member in troubled), refused, now):
        return True
    # Trouble of its own may be one bad desktop, or a pattern: try again, ever more slowly.
    own = [member.since for member in troubled if member.problem != SILENT_HOST.code]
    return bool(own) and now - max(own) < backoff(len(own))


def _grow(
    pool: Wish, members: Sequence[Member], waiting: int, now: datetime, *, busy: bool
) -> Iterator[Create]:
    if not pool.makeable or _held_back(members, now):
        return
    standing = _count(members, Phase.FREE, Phase.COMING, Phase.TROUBLED, Phase.ASSIGNED)
    total = standing + _count(members, Phase.LEAVING)
    free = [member for member in members if member.phase is Phase.FREE]
    need = max(pool.spare + waiting - _supply(members), pool.min - standing)
    outdated = [m for m in free if not (m.spec_current and m.template_current)]
    if len(free) == 1 and outdated and not _count(members, Phase.COMING) and not busy:
        need = max(need, 1)
    missing = min(need, pool.max - total, CREATED_AT_ONCE)
    taken = {member.name for member in members}
    number = 0
    for _ in range(missing):
        number += 1
        while (name := f"{pool.name}-{number}") in taken:
            number += 1
        yield Create(name)
