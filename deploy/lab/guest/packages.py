"""Distribution packages: which versions apt offers, and their files unpacked in a directory.

Nothing is installed on this machine: packages are downloaded as the calling user and unpacked
with ``dpkg-deb -x``.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
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


def candidate(name: str) -> Package:
    """The version of ``name`` that apt offers; BuildError when it offers none."""
    for line in output_of("apt-cache", "policy", name).splitlines():
        key, _, value = line.strip().partition(": ")
        if key == "Candidate" and value != "(none)":
            return Package(name, value)
    raise BuildError(f"apt offers no package {name!r} (is it a Debian system? run apt-get update)")


def kernel_package(metapackage: str) -> Package:
    """The package with the kernel itself, which ``linux-image-amd64`` only depends on."""
    for line in output_of("apt-cache", "depends", metapackage).splitlines():
        relation, _, name = line.strip().partition(": ")
        if relation == "Depends" and name.startswith("linux-image-"):
            return candidate(name)
    raise BuildError(f"{metapackage} depends on no linux-image package")


def with_libraries(name: str) -> Iterator[Package]:
    """``name`` and the library packages that it needs, directly or not."""
    closure = output_of("apt-cache", "depends", "--recurse", *NO_OPTIONAL_RELATIONS, name)
    for line in closure.splitlines():
        # Dependencies are indented and virtual packages stand in angle brackets.
        if line == name or line.startswith("lib"):
            yield candidate(line)


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
