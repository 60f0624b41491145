"""Foreign programs: run with an argument list, their failures as one named error."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

# program -> the Debian package that brings it
REQUIRED = {
    "apt-cache": "apt",
    "apt-get": "apt",
    "as": "binutils",
    "ld": "binutils",
    "dpkg-deb": "dpkg",
    "depmod": "kmod",
    "mke2fs": "e2fsprogs",
    "mcopy": "mtools",
    "mformat": "mtools",
    "qemu-img": "qemu-utils",
    "sfdisk": "fdisk",
    "syslinux": "syslinux",
    "zstd": "zstd",
}

# An unprivileged user's PATH on Debian lacks the directories of depmod, mke2fs and sfdisk.
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class BuildError(Exception):
    """The image could not be built; the text says which input or program is to blame."""


def missing() -> list[str]:
    """The Debian packages that the build needs and this machine lacks."""
    absent = {
        package
        for program, package in REQUIRED.items()
        if shutil.which(program, path=SEARCH_PATH) is None
    }
    return sorted(absent)


def run(
    *argv: str, cwd: Path | None = None, stdin: str = "", env: Mapping[str, str] | None = None
) -> None:
    """Run a program to its end; BuildError with its words when it fails."""
    _call(argv, cwd=cwd, stdin=stdin, env=env)


def output_of(*argv: str) -> str:
    """What a program writes to its standard output; BuildError when it fails."""
    return _call(argv)


def _call(
    argv: tuple[str, ...],
    *,
    cwd: Path | None = None,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
) -> str:
    # C: the answers are parsed, and must not come in the caller's language.
    environment = {"PATH": SEARCH_PATH, "LC_ALL": "C", **(env or {})}
    done = subprocess.run(
        argv, cwd=cwd, input=stdin, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise BuildError(f"{' '.join(argv)} ended with {done.returncode}: {words}")
    return done.stdout
