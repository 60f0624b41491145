"""``roost desktops``."""

from __future__ import annotations

from roost_client.cli.noun import Noun, Verb, group_for
from roost_client.cli.table import Column

DESKTOPS = Noun(
    name="desktops",
    singular="desktop",
    help="Desktops: what runs, where, for whom.",
    collection=lambda roost: roost.desktops,
    columns=(
        Column("name", "name"),
        Column("state", "state"),
        Column("power", "power"),
        Column("host", "host"),
        Column("pool", "pool"),
        Column("template", "template"),
        Column("users", "users"),
        Column("problem", "problem.code"),
    ),
    verbs=(
        Verb("start", "Switch a desktop on.", "is starting"),
        Verb("shutdown", "Ask its guest to shut down.", "is shutting down"),
        Verb("poweroff", "Switch it off at once, without asking its guest.", "is switched off"),
        Verb("reboot", "Ask its guest to restart.", "is restarting"),
        Verb("reimage", "Throw its disk away and begin again from the template.", "is re-imaged"),
    ),
    delete="delete",
)

group = group_for(DESKTOPS)
