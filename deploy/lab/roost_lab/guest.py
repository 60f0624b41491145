"""The lab's guest image, made by ``deploy/lab/guest/build`` and kept in the cache."""

from __future__ import annotations

from pathlib import Path

from roost_lab.paths import Paths
from roost_lab.process import run

IMAGE = "lab-linux.qcow2"


def build(paths: Paths) -> Path:
    """The image among those that imaging may import; the builder keeps what it made."""
    builder = paths.repository / "deploy/lab/guest/build"
    image = paths.imports / IMAGE
    run([paths.python, builder, image, "--cache", paths.cache / "guest"], timeout_s=1200)
    return image
