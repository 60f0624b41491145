"""The only caller of ``qemu-img``.

Every call is an argv list with an explicit format, limits on memory and processor time (a crafted
image makes ``qemu-img`` use both without bound; OpenStack, KubeVirt and LXD limit it for the same
reason), a deadline, and a parent-death signal: when this process is killed, so is its
``qemu-img``. Exit codes and messages become errors of ours here and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from roost_common.errors import Conflict, Invalid, NoCapacity, RoostError, Unavailable
from roost_imaging import image_format
from roost_imaging.image_format import Format

OVERLAY_OPTIONS: Final = "compat=1.1,cluster_size=128k,extended_l2=on,lazy_refcounts=off"
"""128 KiB clusters in subclusters of 4 KiB: a small write copies and allocates 4 KiB of the base,
not a whole cluster. No lazy refcounts: a desktop whose host died must start without a repair."""
TEMPLATE_OPTIONS: Final = "compat=1.1,cluster_size=128k,lazy_refcounts=off"
"""Not compressed, not preallocated: every desktop reads the base all the time, nobody writes it;
clusters as large as the overlays', so that the tables for a large base stay in cache."""
_ENVIRONMENT: Final = {
    "LC_ALL": "C",
    "PATH": os.environ.get("PATH", os.defpath),
    "MALLOC_ARENA_MAX": "2",
}
"""Messages in one language; few malloc arenas, each of which reserves 64 MiB of address space."""
_WRAPPERS: Final = ("setpriv", "prlimit")
"""From util-linux."""
_KEPT_OUTPUT: Final = 64 << 10
_KILL_WAIT_S: Final = 2.0
_PROGRESS: Final = re.compile(rb"\((\d+(?:\.\d+)?)/100%\)")
_FULL: Final = ("No space left on device", "Disk quota exceeded", "File too large")
_TRUNCATED: Final = ("points after EOF", "exceeding the end of the file", "past end of file")
_NOT_WRITTEN: Final = ("error while writing", "Could not create")
"""About the target, whatever the image is like."""
_LOCKED: Final = ('Failed to get shared "', 'Failed to get "')
_NO_MEMORY: Final = ("Cannot allocate memory", "Could not allocate", "failed to allocate")
_CHECK_CORRUPT, _CHECK_LEAKS, _CHECK_UNSUPPORTED = 2, 3, 63
"""Exit codes of ``qemu-img check``, from qemu-img(1)."""

Progress = Callable[[float], None]


@dataclass(frozen=True)
class OpenImage:
    """An image to be read through a descriptor of this process, as exactly this format."""

    fd: int
    format: Format

    @property
    def path(self) -> str:
        """Its name in a child that inherits the descriptor."""
        return f"/proc/self/fd/{self.fd}"

    @property
    def alone(self) -> str:
        """It and nothing else: whatever its header says, no backing file is opened."""
        node: dict[str, Any] = {
            "driver": self.format.value,
            "file": {"driver": "file", "filename": self.path},
        }
        if self.format is not Format.RAW:
            node["backing"] = None
        return "json:" + json.dumps(node)


class ImageInfo(BaseModel):
    """What ``qemu-img info`` says of an image."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: str
    virtual_bytes: int = Field(alias="virtual-size")
    backing_file: str | None = Field(default=None, alias="backing-filename")
    encrypted: bool = False
    specific: dict[str, Any] = Field(default_factory=dict, alias="format-specific")

    @property
    def data_file(self) -> str | None:
        """The external data file of a qcow2 image."""
        data = self.specific.get("data")
        return data.get("data-file") if isinstance(data, dict) else None


# --- argument lists and messages: pure --------------------------------------------------------


def info_argv(image: OpenImage) -> list[str]:
    """``info`` opens neither a backing nor a data file, and says whether there is one."""
    return ["info", "--output=json", "-f", image.format.value, image.path]


def check_argv(image: OpenImage) -> list[str]:
    """``check`` without repair."""
    return ["check", "--output=json", image.alone]


def measure_argv(image: OpenImage) -> list[str]:
    """``measure``: the bytes a conversion will need."""
    return ["measure", "--output=json", "-O", "qcow2", "-o", TEMPLATE_OPTIONS, image.alone]


def convert_argv(image: OpenImage, target: Path, bytes_per_s: int) -> list[str]:
    """``convert`` with progress, not faster than ``bytes_per_s`` unless that is 0."""
    rate = ["-r", str(bytes_per_s)] if bytes_per_s else []
    options = ["-p", *rate, "-O", "qcow2", "-o", TEMPLATE_OPTIONS]
    return ["convert", *options, image.alone, str(target)]


def overlay_argv(target: Path, backing: Path, virtual_bytes: int) -> list[str]:
    """``create`` of an overlay; ``-u`` because base and size are known and need no opening."""
    return [
        "create", "-q", "-f", "qcow2", "-u", "-b", str(backing), "-F", "qcow2",
        "-o", OVERLAY_OPTIONS, str(target), str(virtual_bytes),
    ]  # fmt: skip


def limited_argv(
    program: str, arguments: Sequence[str], memory_bytes: int, cpu_s: int
) -> list[str]:
    """The whole command line: dies with its parent, gains no privilege, stays within limits."""
    return [
        "setpriv", "--pdeathsig", "KILL", "--no-new-privs",
        "prlimit", f"--as={memory_bytes}", f"--cpu={cpu_s}", "--core=0",
        program, *arguments,
    ]  # fmt: skip


def failure(verb: str, code: int, stderr: str) -> RoostError:
    """The error that an exit code and its message mean."""
    if any(text in stderr for text in _FULL):
        return NoCapacity("storage.full", "The storage is full.")
    if code in (-signal.SIGXCPU, -signal.SIGKILL) or any(text in stderr for text in _NO_MEMORY):
        return Invalid(
            "image.too-expensive", "Reading the image takes more time or memory than is allowed."
        )
    if any(text in stderr for text in _LOCKED):
        return Conflict("image.in-use", "The image is in use: a guest writes to it now.")
    if any(text in stderr for text in _TRUNCATED):
        return image_format.truncated()
    reason = stderr.strip().splitlines()[-1][:300] if stderr.strip() else f"exit code {code}"
    reason = re.sub(r"^qemu-img: ", "", reason)
    if verb == "create" or any(text in stderr for text in _NOT_WRITTEN):
        return Unavailable("storage.unavailable", "Writing failed: {reason}.", reason=reason)
    return image_format.corrupt(reason)


# --- running it -------------------------------------------------------------------------------


@dataclass(frozen=True)
class QemuImg:
    """``qemu-img`` with its limits. Times are seconds, sizes bytes."""

    memory_bytes: int
    info_cpu_s: int
    job_cpu_s: int
    short_timeout_s: float
    job_timeout_s: float
    convert_bytes_per_s: int = 0
    program: str = "qemu-img"

    def require(self) -> None:
        """Raises `FileNotFoundError` at the start where a program is missing."""
        for program in (self.program, *_WRAPPERS):
            if shutil.which(program) is None:
                raise FileNotFoundError(f"{program} is not installed")

    async def info(self, image: OpenImage) -> ImageInfo:
        """What it is. Raises `Invalid` for what cannot be read as its format."""
        out = await self._short(info_argv(image), image)
        try:
            return ImageInfo.model_validate_json(out)
        except ValidationError as error:
            raise image_format.corrupt("its description cannot be read") from error

    async def check(self, image: OpenImage) -> None:
        """Raises `Invalid` (``image.truncated``, ``image.corrupt``) for a damaged image.

        Leaked clusters are no damage; raw images have nothing to check.
        """
        if image.format is Format.RAW:
            return
        code, _, stderr = await self._run(check_argv(image), image, self.job_cpu_s)
        if code in (0, _CHECK_LEAKS, _CHECK_UNSUPPORTED):
            return
        error = failure("check", code, stderr)
        if code == _CHECK_CORRUPT and error.code == "image.corrupt":
            error = image_format.corrupt("its tables contradict each other")
        raise error

    async def measure(self, image: OpenImage) -> int:
        """Bytes that `convert` will write."""
        code, out, stderr = await self._run(measure_argv(image), image, self.job_cpu_s)
        if code != 0:
            raise failure("measure", code, stderr)
        return int(json.loads(out)["required"])

    async def convert(self, image: OpenImage, target: Path, progress: Progress) -> None:
        """Write it as a qcow2 that stands alone; ``progress`` is told percents.

        Raises `NoCapacity` (``storage.full``); cancelling ends the process at once.
        """

        def on_output(chunk: bytes) -> None:
            seen = _PROGRESS.findall(chunk)
            if seen:
                progress(float(seen[-1]))

        code, _, stderr = await self._run(
            convert_argv(image, target, self.convert_bytes_per_s),
            image,
            self.job_cpu_s,
            on_output=on_output,
        )
        if code != 0:
            raise failure("convert", code, stderr)

    async def create_overlay(self, target: Path, backing: Path, virtual_bytes: int) -> None:
        """An empty overlay. Raises `NoCapacity` and `Unavailable` for the storage's failures."""
        await self._short(overlay_argv(target, backing, virtual_bytes), None)

    async def _short(self, arguments: list[str], image: OpenImage | None) -> bytes:
        code, out, stderr = await self._run(
            arguments, image, self.info_cpu_s, timeout_s=self.short_timeout_s
        )
        if code != 0:
            raise failure(arguments[0], code, stderr)
        return out

    async def _run(
        self,
        arguments: list[str],
        image: OpenImage | None,
        cpu_s: int,
        *,
        timeout_s: float | None = None,
        on_output: Callable[[bytes], None] | None = None,
    ) -> tuple[int, bytes, str]:
        process = await asyncio.create_subprocess_exec(
            *limited_argv(self.program, arguments, self.memory_bytes, cpu_s),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_ENVIRONMENT,
            pass_fds=() if image is None else (image.fd,),
        )
        assert process.stdout is not None  # noqa: S101 - both are pipes, see above
        assert process.stderr is not None  # noqa: S101
        try:
            async with asyncio.timeout(timeout_s or self.job_timeout_s):
                out, err, code = await asyncio.gather(
                    _collect(process.stdout, on_output), _collect(process.stderr), process.wait()
                )
        except TimeoutError:
            raise Unavailable(
                "storage.unavailable", "qemu-img {verb} took too long.", verb=arguments[0]
            ) from None
        finally:
            await _end(process)
        return code, out, err.decode("utf-8", "replace")


async def _collect(
    stream: asyncio.StreamReader, on_output: Callable[[bytes], None] | None = None
) -> bytes:
    """The beginning of a stream, all of which is read: a broken image has endless complaints."""
    kept = bytearray()
    while chunk := await stream.read(_KEPT_OUTPUT):
        if len(kept) < _KEPT_OUTPUT:
            kept += chunk[: _KEPT_OUTPUT - len(kept)]
        if on_output is not None:
            on_output(chunk)
    return bytes(kept)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill it if it still runs. One that hangs in the kernel is left to end by itself."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_KILL_WAIT_S):
            await process.wait()
