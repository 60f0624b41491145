"""``roost connect``: a desktop's screen in the viewer, with nothing left on disk."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from roost_client import JsonObject, Place, Roost, RoostClientError, Wish
from roost_client.cli.noun import given
from roost_client.cli.progress import Progress
from roost_client.cli.session import Output, current

VIEWER = "remote-viewer"


class Link(StrEnum):
    """What lies between this client and the desktops."""

    LAN = "lan"
    WAN = "wan"


def connect(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="Pool or desktop; not needed when there is only one.")
    ] = None,
    *,
    save: Annotated[
        Path | None, typer.Option(help="Write the viewer's file there instead of opening it.")
    ] = None,
    viewer: Annotated[
        str,
        typer.Option(
            envvar="ROOST_VIEWER", help="Command that reads the viewer's file on its input as '-'."
        ),
    ] = VIEWER,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for a desktop.")] = 300.0,
    monitors: Annotated[
        int | None, typer.Option(min=1, help="Monitors of this client; several are filled.")
    ] = None,
    link: Annotated[
        Link | None, typer.Option(help="wan: fewer colours and effects, for a thin line.")
    ] = None,
    fullscreen: Annotated[bool | None, typer.Option(help="Fill the screen.")] = None,
    output: Output = None,
) -> None:
    """Open a desktop."""
    run = current(context)
    command = shlex.split(viewer)
    # Looked for first: a ticket is good for seconds.
    if save is None and (not command or shutil.which(command[0]) is None):
        raise RoostClientError(
            "client.no-viewer",
            f"There is no {viewer!r} here; install virt-viewer, or use --save or --viewer.",
        )
    with run.connect() as roost, Progress() as progress:
        # What is not said is the server's to choose: several monitors go with the full screen.
        client = given(
            name=socket.gethostname(), monitors=monitors, link=link, fullscreen=fullscreen
        )
        wish = _wish(roost, name, client)
        ticket = roost.launch(wish, wait_s=wait, on_place=lambda at: progress.say(_where(at)))
    opened = name or "the desktop"
    if save is not None:
        _write(save, ticket.viewer_file)
        run.say(f"Saved to {save}; it opens {opened} once.", {"saved": str(save)})
        return
    # On its standard input: the password in it is on no disk and in no list of processes.
    ended = subprocess.run([*command, "-"], input=ticket.viewer_file.encode(), check=False)
    if ended.returncode != 0:
        raise RoostClientError(
            "client.viewer-failed", f"{command[0]} ended with {ended.returncode}."
        )
    run.say(f"{opened} closed.", {"opened": name})


def _wish(roost: Roost, name: str | None, client: JsonObject) -> Wish:
    if name is None:
        return Wish(client=client)
    # A name of both kinds is the pool: that is what users see first.
    kinds = {item.get("kind") for item in roost.my_desktops() if item.get("name") == name}
    if "desktop" in kinds and "pool" not in kinds:
        return Wish(desktop=name, client=client)
    return Wish(pool=name, client=client)


def _where(place: Place) -> str:
    if place.position is not None and place.state == "queued":
        return f"Waiting for a desktop, place {place.position} in the queue"
    return f"The desktop is {place.state or 'not ready yet'}"


def _write(path: Path, text: str) -> None:
    """Readable by its owner alone, also where the file was there before."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            os.fchmod(handle, 0o600)
            file.write(text)
    except OSError as error:
        raise RoostClientError(
            "client.save-failed", f"{path} cannot be written: {error.strerror}."
        ) from error
