"""Which protocol a launch gets, and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from roost_common.errors import Conflict

OFFERED: tuple[str, ...] = ("spice",)
"""What pools of running desktops serve, best first."""


def choose(wanted: Sequence[str] | None, offered: Sequence[str] = OFFERED) -> tuple[str, str]:
    """The first of the client's protocols that is offered, and the reason in a sentence.

    Raises `Conflict` (``protocol.none-in-common``) where there is none.
    """
    if not wanted:
        return offered[0], f"The client named no protocol; {offered[0]} is the pool's first."
    for number, name in enumerate(wanted):
        if name in offered:
            if number == 0:
                return name, f"{name} is the client's first choice and the pool serves it."
            passed = ", ".join(wanted[:number])
            return name, f"The pool does not serve {passed}; {name} is the client's next choice."
    raise Conflict(
        "protocol.none-in-common",
        "The client speaks {wanted_text}; this pool serves {offered_text}.",
        wanted=list(wanted),
        offered=list(offered),
        wanted_text=", ".join(wanted),
        offered_text=", ".join(offered),
    )
