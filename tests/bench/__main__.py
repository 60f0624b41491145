"""``make bench``: every figure beside the bare work in the same run; ``.roost/bench.json``."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "deploy" / "lab"))

from tests.bench import creation, events, failover, fleet, launch, managers  # noqa: E402
from tests.bench.report import Report  # noqa: E402
from tests.bench.servers import servers  # noqa: E402

DEFAULT = ("events", "fleet", "launch", "creation", "managers")
PARTS = (*DEFAULT, "failover")
"""``failover`` is asked for by name: it does not come to its end on every machine yet."""


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=DEFAULT, help=f"of {', '.join(PARTS)}")
    chosen = set(parser.parse_args().parts)
    if unknown := chosen - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    report = Report()
    if chosen & {"events", "fleet", "failover"}:
        with servers() as private:
            if "events" in chosen:
                report.add(*asyncio.run(events.measure(private)))
            if "fleet" in chosen:
                report.add(*asyncio.run(fleet.measure(private)))
            if "failover" in chosen:
                report.add(*asyncio.run(failover.measure(private)))
    if chosen & {"launch", "creation", "managers"}:
        with launch.lab() as lab:
            if "launch" in chosen:
                report.add(*launch.measure(lab))
            if "creation" in chosen:
                report.add(*creation.measure(lab))
            if "managers" in chosen:
                report.add(*managers.measure(lab))
    report.write(ROOT / ".roost" / "bench.json")


if __name__ == "__main__":
    main()
