"""The text on a picture of a screen, as tesseract reads it."""

from __future__ import annotations

import io
import os
import subprocess
from functools import lru_cache
from pathlib import Path

from PIL import Image


def text_of(picture: Path) -> str:
    """Of light letters on dark; a screen that has not changed is not read again, for the guest
    behind it needs the processors."""
    with Image.open(picture) as image:
        plain = image.convert("L").point(lambda level: 0 if level > 120 else 255)
    return _read(plain.size, plain.tobytes())


@lru_cache(maxsize=8)
def _read(size: tuple[int, int], pixels: bytes) -> str:
    encoded = io.BytesIO()
    Image.frombytes("L", size, pixels).save(encoded, "PNG", compress_level=1)
    done = subprocess.run(
        ["tesseract", "-", "-", "--psm", "6"],
        input=encoded.getvalue(),
        capture_output=True,
        check=True,
        env={**os.environ, "OMP_THREAD_LIMIT": "1"},
    )
    return done.stdout.decode()
