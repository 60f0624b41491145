"""Argument lists and what exit codes and messages mean."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from roost_common.errors import Invalid, Unavailable
from roost_imaging import image_check, qemu_img
from roost_imaging.image_format import Format
from roost_imaging.image_header import Header
from roost_imaging.qemu_img import ImageInfo, OpenImage, QemuImg

QCOW2 = OpenImage(7, Format.QCOW2)


def test_an_image_is_read_as_exactly_one_format_and_alone() -> None:
    assert qemu_img.info_argv(QCOW2) == ["info", "--output=json", "-f", "qcow2", "/proc/self/fd/7"]
    node = json.loads(QCOW2.alone.removeprefix("json:"))
    assert node == {
        "driver": "qcow2",
        "file": {"driver": "file", "filename": "/proc/self/fd/7"},
        "backing": None,
    }
    raw = json.loads(OpenImage(3, Format.RAW).alone.removeprefix("json:"))
    assert raw == {"driver": "raw", "file": {"driver": "file", "filename": "/proc/self/fd/3"}}


def test_the_verbs() -> None:
    target = Path("/s/x")
    assert qemu_img.check_argv(QCOW2) == ["check", "--output=json", QCOW2.alone]
    assert qemu_img.convert_argv(QCOW2, target, 0) == [
        "convert", "-p", "-O", "qcow2", "-o", qemu_img.TEMPLATE_OPTIONS, QCOW2.alone, "/s/x",
    ]  # fmt: skip
    assert qemu_img.convert_argv(QCOW2, target, 5)[:4] == ["convert", "-p", "-r", "5"]
    assert qemu_img.overlay_argv(target, Path("/s/base"), 1024) == [
        "create", "-q", "-f", "qcow2", "-u", "-b", "/s/base", "-F", "qcow2",
        "-o", qemu_img.OVERLAY_OPTIONS, "/s/x", "1024",
    ]  # fmt: skip
    measure = qemu_img.measure_argv(QCOW2)
    assert measure[:2] == ["measure", "--output=json"]
    assert measure[-1] == QCOW2.alone


def test_every_call_is_limited_and_dies_with_its_parent() -> None:
    argv = qemu_img.limited_argv("qemu-img", ["info", "x"], 1 << 30, 30)
    assert argv == [
        "setpriv", "--pdeathsig", "KILL", "--no-new-privs",
        "prlimit", "--as=1073741824", "--cpu=30", "--core=0", "qemu-img", "info", "x",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("verb", "code", "stderr", "meaning", "retryable"),
    [
        (
            "convert",
            1,
            "qemu-img: error while writing at byte 0: No space left on device",
            "storage.full",
            True,
        ),
        ("create", 1, "qemu-img: x: Disk quota exceeded", "storage.full", True),
        ("create", 1, "qemu-img: x: Stale file handle", "storage.unavailable", True),
        (
            "convert",
            1,
            "qemu-img: error while writing at byte 5: Input/output error",
            "storage.unavailable",
            True,
        ),
        (
            "convert",
            1,
            "qemu-img: y: error while converting qcow2: Could not create 'y': No such file",
            "storage.unavailable",
            True,
        ),
        (
            "convert",
            1,
            "qemu-img: error while reading at byte 5: Input/output error",
            "image.corrupt",
            False,
        ),
        ("info", -signal.SIGXCPU, "", "image.too-expensive", False),
        ("check", -signal.SIGKILL, "", "image.too-expensive", False),
        ("info", 1, "qemu-img: Cannot allocate memory", "image.too-expensive", False),
        ("info", 1, 'qemu-img: Failed to get shared "write" lock', "image.in-use", False),
        (
            "check",
            1,
            "ERROR: cluster offset for sector 1 points after EOF\nqemu-img: Check failed",
            "image.truncated",
            False,
        ),
        ("info", 1, "qemu-img: Could not open 'x': nonsense", "image.corrupt", False),
        ("info", 9, "", "image.corrupt", False),
    ],
)
def test_failures_have_names(
    verb: str, code: int, stderr: str, meaning: str, retryable: bool
) -> None:
    error = qemu_img.failure(verb, code, stderr)
    assert (error.code, error.retryable) == (meaning, retryable)
    assert error.detail
    assert "qemu-img:" not in error.detail


def info(**changes: object) -> ImageInfo:
    return ImageInfo.model_validate({"format": "qcow2", "virtual-size": 1024, **changes})


@pytest.mark.parametrize(
    ("found", "refusal"),
    [
        (info(**{"backing-filename": "/etc/passwd"}), "image.has-backing-file"),
        (info(**{"format-specific": {"data": {"data-file": "/x"}}}), "image.has-data-file"),
        (info(encrypted=True), "image.encrypted"),
        (info(format="raw"), "image.format-mismatch"),
        (info(**{"virtual-size": 4096}), "image.too-large"),
        (info(**{"virtual-size": 0}), "image.empty"),
    ],
)
def test_the_second_look(found: ImageInfo, refusal: str) -> None:
    with pytest.raises(Invalid) as caught:
        image_check.judge(found, Header(Format.QCOW2, 1024), 2048)
    assert caught.value.code == refusal
    image_check.judge(info(), Header(Format.QCOW2, 1024), 2048)


def qemu(program: Path, **changes: float) -> QemuImg:
    times = {"short_timeout_s": 10.0, "job_timeout_s": 10.0, **changes}
    return QemuImg(1 << 30, 5, 5, program=str(program), **times)  # type: ignore[arg-type]


def lives(pid: str) -> bool:
    return Path(f"/proc/{pid}").exists()


def script(tmp_path: Path, body: str) -> Path:
    program = tmp_path / "fake-qemu-img"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return program


@pytest.mark.long
async def test_one_that_never_ends_is_ended(tmp_path: Path) -> None:
    program = script(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 600")
    with pytest.raises(Unavailable) as caught:
        await qemu(program, short_timeout_s=0.5).create_overlay(tmp_path / "o", tmp_path / "b", 1)
    assert caught.value.code == "storage.unavailable"
    assert not lives((tmp_path / "pid").read_text().strip())


async def test_one_that_complains_without_end_fills_no_memory(tmp_path: Path) -> None:
    body = "yes ERROR: cluster points after EOF | head -c 5000000 >&2; exit 1"
    with pytest.raises(Invalid) as caught:
        await qemu(script(tmp_path, body)).check(OpenImage(0, Format.QCOW2))
    assert caught.value.code == "image.truncated"


async def test_progress_is_told(tmp_path: Path) -> None:
    body = r"printf '    (0.00/100%%)\r    (12.50/100%%)\r'; printf '    (100.00/100%%)\r\n'"
    told: list[float] = []
    await qemu(script(tmp_path, body)).convert(
        OpenImage(0, Format.RAW), tmp_path / "out", told.append
    )
    assert told[-1] == 100.0


@pytest.mark.long
async def test_processor_time_is_limited(tmp_path: Path) -> None:
    program = script(tmp_path, "while :; do :; done")
    limited = QemuImg(1 << 30, 1, 1, short_timeout_s=60, job_timeout_s=60, program=str(program))
    with pytest.raises(Invalid) as caught:
        await limited.info(OpenImage(0, Format.RAW))
    assert caught.value.code == "image.too-expensive"
