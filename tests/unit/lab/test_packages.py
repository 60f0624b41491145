"""packages.txt names whatever a bare machine needs before anything of the lab runs."""

from __future__ import annotations

from pathlib import Path

from guest.tools import REQUIRED

LAB = Path(__file__).parents[3] / "deploy" / "lab"
ALWAYS_THERE = {"apt", "dpkg"}
"""No Debian is without them, and nothing is installed without them."""


def listed() -> list[str]:
    lines = (LAB / "packages.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_every_program_of_the_guest_image_comes_from_a_listed_package() -> None:
    assert set(REQUIRED.values()) - ALWAYS_THERE <= set(listed())


def test_make_is_listed_for_what_calls_it() -> None:
    assert "make" in listed()


def test_each_package_is_listed_once_and_by_its_bare_name() -> None:
    names = listed()
    assert len(names) == len(set(names))
    assert all(name == name.strip() and " " not in name for name in names)
