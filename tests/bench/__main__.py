"""``make bench``: every figure beside the bare work in the same run; ``.roost/bench.json``."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "deploy" / "lab"))

from tests.bench import creation, events, failover, fleet, launch, managers, revival  # noqa: E402
from tests.bench.report import Report  # noqa: E402
from tests.bench.servers import servers  # noqa: E402

PRIVATE = {"events": events.measure, "fleet": fleet.measure, "failover": failover.measure}
"""On servers of the run's own."""
ON_THE_LAB = {
    "launch": launch.measure,
    "creation": creation.measure,
    "managers": managers.measure,
    "revival": revival.measure,
}
PARTS = (*PRIVATE, *ON_THE_LAB)


def main() -> None:
    """The command; what has been measured is kept, whatever becomes of the rest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=PARTS, help=f"of {', '.join(PARTS)}")
    chosen = set(parser.parse_args().parts)
    if unknown := chosen - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    report = Report()
    try:
        if chosen & PRIVATE.keys():
            with servers() as private:
                for name, measure in PRIVATE.items():
                    if name in chosen:
                        report.add(*asyncio.run(measure(private)))
        if chosen & ON_THE_LAB.keys():
            with launch.lab() as lab:
                for name, look in ON_THE_LAB.items():
                    if name in chosen:
                        report.add(*look(lab))
    finally:
        report.write(ROOT / ".roost" / "bench.json")


if __name__ == "__main__":
    main()
