"""Figures of one run: every one beside the bare work it is a ratio to."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Figure:
    """One measured value and its bare counterpart, in the same unit."""

    name: str
    unit: str
    ours: float
    bare: float | None = None
    wanted: str = ""
    """What the design asks for, as text: a bench reports, it does not judge."""
    measured_at: str = field(default_factory=_now)
    """UTC, ISO 8601."""

    @property
    def ratio(self) -> float | None:
        """Ours divided by the bare work."""
        return None if not self.bare else self.ours / self.bare


@dataclass
class Report:
    """All figures of a run; the file that they go to has those of earlier ones, too."""

    figures: list[Figure] = field(default_factory=list)

    def add(self, *figures: Figure) -> None:
        """Keep figures, and print them as they come."""
        for figure in figures:
            self.figures.append(figure)
            bare = "" if figure.bare is None else f"  bare {figure.bare:10.2f}"
            ratio = "" if figure.ratio is None else f"  ratio {figure.ratio:7.2f}"
            wanted = f"  (wanted {figure.wanted})" if figure.wanted else ""
            print(f"{figure.name:44} {figure.ours:10.2f} {figure.unit:4}{bare}{ratio}{wanted}")

    def write(self, path: Path) -> None:
        """As JSON. Of figures that were not measured now, those measured earlier stay."""
        rows = [{**asdict(figure), "ratio": figure.ratio} for figure in self.figures]
        # A name may be there more than once, for every host agent for instance: all go together.
        measured = {row["name"] for row in rows}
        stay = [row for row in _earlier(path) if row["name"] not in measured]
        machine = {"processor": platform.machine(), "python": platform.python_version()}
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: what is in it may have taken hours.
        part = path.with_name(f".{path.name}.part")
        part.write_text(json.dumps({"machine": machine, "figures": stay + rows}, indent=2) + "\n")
        part.replace(path)


def _earlier(path: Path) -> list[dict[str, Any]]:
    """The figures of earlier runs."""
    if not path.exists():
        return []
    figures: list[dict[str, Any]] = json.loads(path.read_text())["figures"]
    return figures


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which ``percent`` of the values lie."""
    if len(values) < 2:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
