"""Options for a desktop's hardware; the limits beyond these are the server's."""

from __future__ import annotations

from typing import Annotated

import typer

Vcpus = Annotated[int | None, typer.Option(min=1, help="Virtual processors.")]
MemoryMib = Annotated[int | None, typer.Option(min=64, help="Memory in MiB.")]
Monitors = Annotated[int | None, typer.Option(min=1, max=4, help="Screens.")]
