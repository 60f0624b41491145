"""Distribution packages: which versions apt offers, and their files unpacked in a directory.

Nothing is installed on this machine: packages are downloaded as the calling user and unpacked
with ``dpkg-deb -x``.
"""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from guest.tools import BuildError, output_of, run

NO_OPTIONAL_RELATIONS = tuple(
    f"--no-{relation}"
    for relation in (
        "pre-depends",
        "recommends",
        "suggests",
        "conflicts",
        "breaks",
        "replaces",
        "enhances",
    )
)


@dataclass(frozen=True, order=True)
class Package:
    """One package at the version that apt would install here."""

    name: str
    version: str


def candidates(names: Iterable[str]) -> list[Package]:
    """Each of ``names`` at the version that apt offers; BuildError when it offers none of one."""
    wanted = sorted(set(names))
    found: dict[str, str] = {}
    name = ""
    # A line "name:" at the margin, then indented facts, for all names at once: apt reads its
    # lists anew for each call, which takes a second.
    for line in output_of("apt-cache", "policy", *wanted).splitlines():
        if not line.startswith(" "):
            name = line.rstrip(":")
        key, _, version = line.strip().partition(": ")
        if key == "Candidate" and version != "(none)":
            found[name] = version
    if absent := [name for name in wanted if name not in found]:
        raise BuildError(
            f"apt offers no {', '.join(absent)} (is it a Debian system? run apt-get update)"
        )
    return [Package(name, found[name]) for name in wanted]


def kernel_name(metapackage: str) -> str:
    """The package with the kernel itself, which ``linux-image-amd64`` only depends on."""
    for line in output_of("apt-cache", "depends", metapackage).splitlines():
        relation, _, name = line.strip().partition(": ")
        if relation == "Depends" and name.startswith("linux-image-"):
            return name
    raise BuildError(f"{metapackage} depends on no linux-image package (is it a Debian system?)")


def with_libraries(name: str) -> list[str]:
    """``name`` and the library packages that it needs, directly or not."""
    closure = output_of("apt-cache", "depends", "--recurse", *NO_OPTIONAL_RELATIONS, name)
    # Dependencies are indented and virtual packages stand in angle brackets.
    return [line for line in closure.splitlines() if line == name or line.startswith("lib")]


def unpack(packages: Iterable[Package], *, downloads: Path, tree: Path) -> None:
    """Fill ``tree`` with the files of ``packages``; a file already downloaded is used again."""
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    downloads.mkdir(parents=True, exist_ok=True)
    for package in packages:
        run("dpkg-deb", "-x", str(_downloaded(package, downloads)), str(tree))


def _downloaded(package: Package, downloads: Path) -> Path:
    # apt-get writes a version's colon as %3a.
    pattern = f"{package.name}_{package.version.replace(':', '%3a')}_*.deb"
    if not any(downloads.glob(pattern)):
        # Root's apt downloads as the user _apt, who cannot write here, and says so each time.
        sandbox = ("-o", "APT::Sandbox::User=root") if os.geteuid() == 0 else ()
        wanted = f"{package.name}={package.version}"
        run("apt-get", "-qq", *sandbox, "download", wanted, cwd=downloads)
    return next(downloads.glob(pattern))
