"""What there is of the lab, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from roost_lab import site as sites
from roost_lab.errors import LabError
from roost_lab.lab import Lab
from roost_lab.services import ADMIN


def show(lab: Lab) -> bool:
    """Print every part; false when one of them is not as it should be."""
    if not lab.supervisor.answers():
        print("The lab is down. `make up` brings it up.")
        return False
    states = lab.supervisor.states()
    shown_below = {node.name for node in lab.nodes} | {place.name for place in lab.machines}
    rows = [(name, state.lower(), "") for name, state in states.items() if name not in shown_below]
    for place in lab.machines:
        rows.append((place.name, place.state(), ""))
        rows += [(f"  {name}", state.lower(), "") for name, state in place.programs().items()]
    for node in lab.nodes:
        inside = ", ".join(f"{name} {state.lower()}" for name, state in node.programs().items())
        rows.append((node.name, node.state(), f"{node.address}  {inside}"))
    print(table(("PART", "STATE", ""), rows))
    good = all(row[1] in ("running", "on") for row in rows)
    try:
        print(_site(lab))
    except (httpx.HTTPError, LabError, KeyError) as error:
        print(f"\nthe site does not answer: {str(error).splitlines()[0]}")
        return False
    return good


def _site(lab: Lab) -> str:
    with httpx.Client(
        base_url=f"http://localhost:{sites.HTTP_PORT}/api/v1", timeout=10, trust_env=False
    ) as http:
        form = {"username": ADMIN, "password": lab.secrets.password("admin-password")}
        token = http.post("/auth/token", data=form).raise_for_status().json()["access_token"]
        http.headers["Authorization"] = f"Bearer {token}"
        hosts, pools, desktops = (
            http.get(path, params={"limit": 100}).raise_for_status().json()["items"]
            for path in ("/hosts", "/pools", "/desktops")
        )
    return "\n".join(
        [
            "",
            table(
                ("HOST", "STATE", "DESKTOPS"),
                [_cells(host, "name", "state", "desktops") for host in hosts],
            ),
            "",
            table(
                ("POOL", "KIND", "DESKTOPS"),
                [_cells(pool, "name", "kind", "desktops") for pool in pools],
            ),
            "",
            table(
                ("DESKTOP", "STATE", "HOST"),
                [_cells(desktop, "name", "state", "host") for desktop in desktops],
            ),
        ]
    )


def _cells(thing: dict[str, Any], *keys: str) -> tuple[str, ...]:
    return tuple(_text(thing.get(key)) for key in keys)


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {number}" for key, number in value.items())
    return "-" if value is None else str(value)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
