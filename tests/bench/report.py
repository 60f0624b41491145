"""Figures of one run: every one beside the bare work it is a ratio to."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One measured value and its bare counterpart, in the same unit."""

    name: str
    unit: str
    ours: float
    bare: float | None = None
    wanted: str = ""
    """What the design asks for, as text: a bench reports, it does not judge."""

    @property
    def ratio(self) -> float | None:
        """Ours divided by the bare work."""
        return None if not self.bare else self.ours / self.bare


@dataclass
class Report:
    """All figures of a run."""

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
        """As JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{**asdict(figure), "ratio": figure.ratio} for figure in self.figures]
        machine = {"processor": platform.machine(), "python": platform.python_version()}
        path.write_text(json.dumps({"machine": machine, "figures": rows}, indent=2) + "\n")


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which ``percent`` of the values lie."""
    if len(values) < 2:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
