"""Every hostile or broken image made for real, and refused with nothing left behind.

``at`` says where: ``post`` answers at once, ``job`` accepts and then fails with the problem.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.needs import require_root

from roost_common.contracts.template import JobFinished, TemplateCreated

pytestmark = pytest.mark.integration
World = Any
Hostile = Callable[[World], dict[str, Any]]

SECRET = "the secret of another file\n" * 400


def _secret(world: World) -> Path:
    secret = world.imports.parent / "secret.raw"
    secret.write_text(SECRET)
    return Path(secret)


def backing_file(world: World) -> dict[str, Any]:
    world.qemu_img(
        "create", "-q", "-f", "qcow2", "-b", _secret(world), "-F", "raw", "a.qcow2", "8M"
    )
    return {"path": "a.qcow2"}


def backing_file_inside(world: World) -> dict[str, Any]:
    world.image("base.qcow2")
    world.qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "a.qcow2")
    return {"path": "a.qcow2"}


def backing_file_of_json(world: World) -> dict[str, Any]:
    """The form that makes a reader open whatever the JSON says."""
    target = 'json:{"driver":"file","filename":"/etc/passwd"}'
    world.qemu_img("create", "-q", "-f", "qcow2", "-u", "-b", target, "-F", "raw", "a.qcow2", "8M")
    return {"path": "a.qcow2"}


def data_file(world: World) -> dict[str, Any]:
    options = f"data_file={world.imports.parent / 'data.raw'},data_file_raw=on"
    world.qemu_img("create", "-q", "-f", "qcow2", "-o", options, "a.qcow2", "8M")
    return {"path": "a.qcow2"}


def data_file_without_its_bit(world: World) -> dict[str, Any]:
    """The feature bit is cleared, the name stays: an amended header would follow it."""
    data_file(world)
    _patch(world.imports / "a.qcow2", 72, struct.pack(">Q", 0))
    return {"path": "a.qcow2"}


def qcow2_called_raw(world: World) -> dict[str, Any]:
    backing_file(world)
    (world.imports / "a.qcow2").rename(world.imports / "a.raw")
    return {"path": "a.raw"}


def qcow2_claimed_raw(world: World) -> dict[str, Any]:
    backing_file(world)
    return {"path": "a.qcow2", "format": "raw"}


def raw_claimed_qcow2(world: World) -> dict[str, Any]:
    (world.imports / "a.raw").write_bytes(b"\0" * 65536)
    return {"path": "a.raw", "format": "qcow2"}


def other_format(world: World) -> dict[str, Any]:
    world.qemu_img("create", "-q", "-f", "vdi", "a.img", "8M")
    return {"path": "a.img"}


def other_claim(world: World) -> dict[str, Any]:
    world.image("a.qcow2")
    return {"path": "a.qcow2", "format": "luks"}


def text_file(world: World) -> dict[str, Any]:
    (world.imports / "notes.txt").write_text("no disk at all")
    return {"path": "notes.txt"}


def too_large(world: World) -> dict[str, Any]:
    world.qemu_img("create", "-q", "-f", "qcow2", "a.qcow2", "2T")
    return {"path": "a.qcow2"}


def too_large_raw(world: World) -> dict[str, Any]:
    with (world.imports / "a.raw").open("wb") as file:
        file.truncate(2 << 40)
    return {"path": "a.raw"}


def too_large_vmdk(world: World) -> dict[str, Any]:
    world.qemu_img("create", "-q", "-f", "vmdk", "a.vmdk", "1536G")
    return {"path": "a.vmdk"}


def absurd_size(world: World) -> dict[str, Any]:
    """A header that promises exbibytes."""
    world.image("a.qcow2")
    _patch(world.imports / "a.qcow2", 24, struct.pack(">Q", 1 << 62))
    return {"path": "a.qcow2"}


def empty(world: World) -> dict[str, Any]:
    (world.imports / "a.raw").touch()
    return {"path": "a.raw"}


def encrypted(world: World) -> dict[str, Any]:
    world.qemu_img(
        "create", "-q", "--object", "secret,id=k,data=abc", "-f", "qcow2",
        "-o", "encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=200", "a.qcow2", "1M",
    )  # fmt: skip
    return {"path": "a.qcow2"}


def encrypted_raw(world: World) -> dict[str, Any]:
    world.qemu_img(
        "create", "-q", "--object", "secret,id=k,data=abc", "-f", "luks",
        "-o", "key-secret=k,iter-time=200", "a.img", "1M",
    )  # fmt: skip
    return {"path": "a.img"}


def truncated_header(world: World) -> dict[str, Any]:
    world.image("a.qcow2")
    _truncate(world.imports / "a.qcow2", 60)
    return {"path": "a.qcow2"}


def truncated_tables(world: World) -> dict[str, Any]:
    world.image("a.qcow2")
    _truncate(world.imports / "a.qcow2", 70_000)
    return {"path": "a.qcow2"}


def truncated_data(world: World) -> dict[str, Any]:
    world.image("a.qcow2", mib=20, data_mib=8)
    _truncate(world.imports / "a.qcow2", 4_000_000)
    return {"path": "a.qcow2"}


def truncated_vmdk(world: World) -> dict[str, Any]:
    world.image("a.vmdk", "vmdk", mib=20, data_mib=8)
    _truncate(world.imports / "a.vmdk", 4_000_000)
    return {"path": "a.vmdk"}


def marked_corrupt(world: World) -> dict[str, Any]:
    world.image("a.qcow2")
    _patch(world.imports / "a.qcow2", 72, struct.pack(">Q", 2))
    return {"path": "a.qcow2"}


def unknown_feature(world: World) -> dict[str, Any]:
    world.image("a.qcow2")
    _patch(world.imports / "a.qcow2", 72, struct.pack(">Q", 1 << 20))
    return {"path": "a.qcow2"}


def wrong_tables(world: World) -> dict[str, Any]:
    """A guest's first cluster is the image's own refcount table."""
    image = world.image("a.qcow2")
    with image.open("rb") as file:
        file.seek(40)
        (l1,) = struct.unpack(">Q", file.read(8))
        file.seek(l1)
        (l2,) = struct.unpack(">Q", file.read(8))
    _patch(image, l2 & 0x00FFFFFFFFFFFE00, struct.pack(">Q", 1 << 63 | 65536))
    return {"path": "a.qcow2"}


def flat_vmdk(world: World) -> dict[str, Any]:
    world.qemu_img("create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", "a.vmdk", "8M")
    return {"path": "a.vmdk"}


def split_vmdk(world: World) -> dict[str, Any]:
    options = "subformat=twoGbMaxExtentSparse"
    world.qemu_img("create", "-q", "-f", "vmdk", "-o", options, "a.vmdk", "8M")
    return {"path": "a.vmdk"}


def vmdk_reading_elsewhere(world: World) -> dict[str, Any]:
    """A descriptor whose extent is any file of the host."""
    (world.imports / "a.vmdk").write_text(
        '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
        f'RW 8 FLAT "{_secret(world)}" 0\n'
    )
    return {"path": "a.vmdk"}


def vmdk_without_capacity(world: World) -> dict[str, Any]:
    """Such a header makes a reader follow the embedded descriptor's extents."""
    image = world.image("a.vmdk", "vmdk")
    _patch(image, 12, struct.pack("<Q", 0))
    text = image.read_bytes()[512 : 512 + 10240].rstrip(b"\0").decode()
    hostile = text.replace('SPARSE "a.vmdk"', f'FLAT "{_secret(world)}" 0').encode()
    _patch(image, 512, hostile.ljust(10240, b"\0"))
    return {"path": "a.vmdk"}


def vmdk_extent_elsewhere(world: World) -> dict[str, Any]:
    image = world.image("a.vmdk", "vmdk")
    text = image.read_bytes()[512 : 512 + 10240].rstrip(b"\0").decode()
    hostile = text.replace('"a.vmdk"', '"../../a.vmdk"').encode()
    _patch(image, 512, hostile.ljust(10240, b"\0"))
    return {"path": "a.vmdk"}


def vmdk_with_a_parent(world: World) -> dict[str, Any]:
    world.image("parent.vmdk", "vmdk")
    parent = world.imports / "parent.vmdk"
    world.qemu_img("create", "-q", "-f", "vmdk", "-b", parent, "-F", "vmdk", "a.vmdk")
    return {"path": "a.vmdk"}


def vmdk_with_a_hidden_parent(world: World) -> dict[str, Any]:
    """The header's descriptor is clean, the place where a reader looks is not."""
    vmdk_with_a_parent(world)
    image = world.imports / "a.vmdk"
    text = image.read_bytes()[512 : 512 + 10240]
    lines = text.rstrip(b"\0").decode().splitlines()
    clean = "\n".join(line for line in lines if "parentFileNameHint" not in line)
    clean = "\n".join("parentCID=ffffffff" if "parentCID" in x else x for x in clean.splitlines())
    size = image.stat().st_size
    _patch(image, size, clean.encode().ljust(10240, b"\0"))
    _patch(image, 28, struct.pack("<QQ", size // 512, 20))
    return {"path": "a.vmdk"}


def outside_relative(world: World) -> dict[str, Any]:
    _secret(world)
    return {"path": "../secret.raw"}


def outside_absolute(world: World) -> dict[str, Any]:
    return {"path": str(_secret(world))}


def outside_by_prefix(world: World) -> dict[str, Any]:
    """A sibling directory whose name begins with the import directory's."""
    sibling = Path(str(world.imports) + "-2")
    sibling.mkdir()
    (sibling / "a.raw").write_bytes(b"\0" * 4096)
    return {"path": str(sibling / "a.raw")}


def symlink_out(world: World) -> dict[str, Any]:
    (world.imports / "a.raw").symlink_to(_secret(world))
    return {"path": "a.raw"}


def symlink_inside(world: World) -> dict[str, Any]:
    world.image("good.qcow2")
    (world.imports / "a.qcow2").symlink_to("good.qcow2")
    return {"path": "a.qcow2"}


def symlinked_directory(world: World) -> dict[str, Any]:
    _secret(world)
    (world.imports / "sub").symlink_to(world.imports.parent, target_is_directory=True)
    return {"path": "sub/secret.raw"}


def dangling_symlink(world: World) -> dict[str, Any]:
    (world.imports / "a.raw").symlink_to("nowhere")
    return {"path": "a.raw"}


def directory(world: World) -> dict[str, Any]:
    (world.imports / "sub").mkdir()
    return {"path": "sub"}


def import_dir_itself(world: World) -> dict[str, Any]:
    return {"path": str(world.imports)}


def fifo(world: World) -> dict[str, Any]:
    os.mkfifo(world.imports / "a.raw")
    return {"path": "a.raw"}


def unix_socket(world: World) -> dict[str, Any]:
    here = Path.cwd()
    os.chdir(world.imports)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("a.raw")
    finally:
        os.chdir(here)
    return {"path": "a.raw"}


def device(world: World) -> dict[str, Any]:
    require_root("to make device nodes")
    os.mknod(world.imports / "a.raw", 0o600 | 0o060000, os.makedev(7, 0))
    return {"path": "a.raw"}


def missing(world: World) -> dict[str, Any]:
    return {"path": "nothing.qcow2"}


def below_a_file(world: World) -> dict[str, Any]:
    world.image("a.qcow2")
    return {"path": "a.qcow2/b"}


def control_characters(world: World) -> dict[str, Any]:
    return {"path": "a\0.qcow2"}


AT_POST: list[tuple[Hostile, str]] = [
    (backing_file, "image.has-backing-file"),
    (backing_file_inside, "image.has-backing-file"),
    (backing_file_of_json, "image.has-backing-file"),
    (data_file, "image.has-data-file"),
    (data_file_without_its_bit, "image.has-data-file"),
    (qcow2_called_raw, "image.format-mismatch"),
    (qcow2_claimed_raw, "image.format-mismatch"),
    (raw_claimed_qcow2, "image.format-mismatch"),
    (other_format, "image.format-unsupported"),
    (other_claim, "image.format-unsupported"),
    (text_file, "image.format-unknown"),
    (too_large, "image.too-large"),
    (too_large_raw, "image.too-large"),
    (too_large_vmdk, "image.too-large"),
    (absurd_size, "image.too-large"),
    (empty, "image.empty"),
    (encrypted, "image.encrypted"),
    (encrypted_raw, "image.encrypted"),
    (truncated_header, "image.truncated"),
    (truncated_tables, "image.truncated"),
    (marked_corrupt, "image.corrupt"),
    (unknown_feature, "image.feature-unknown"),
    (flat_vmdk, "image.vmdk-unsupported"),
    (split_vmdk, "image.vmdk-unsupported"),
    (vmdk_reading_elsewhere, "image.vmdk-unsupported"),
    (vmdk_without_capacity, "image.vmdk-unsupported"),
    (vmdk_extent_elsewhere, "image.vmdk-unsupported"),
    (vmdk_with_a_parent, "image.has-backing-file"),
    (vmdk_with_a_hidden_parent, "image.has-backing-file"),
    (outside_relative, "import.path-outside"),
    (outside_absolute, "import.path-outside"),
    (outside_by_prefix, "import.path-outside"),
    (symlink_out, "import.symlink"),
    (symlink_inside, "import.symlink"),
    (symlinked_directory, "import.symlink"),
    (dangling_symlink, "import.symlink"),
    (directory, "import.not-a-file"),
    (import_dir_itself, "import.not-a-file"),
    (fifo, "import.not-a-file"),
    (unix_socket, "import.not-a-file"),
    (device, "import.not-a-file"),
    (missing, "import.not-found"),
    (below_a_file, "import.not-found"),
    (control_characters, "import.path-invalid"),
]
IN_JOB: list[tuple[Hostile, str]] = [
    (truncated_data, "image.truncated"),
    (truncated_vmdk, "image.truncated"),
    (wrong_tables, "image.corrupt"),
]


async def _nothing_is_left(world: World) -> None:
    assert world.files() == set()
    assert (await world.http.get("/api/v1/templates")).json()["items"] == []
    assert world.of(TemplateCreated) == []


async def test_the_cheap_half_is_refused_at_once(world: World) -> None:
    await world.make_storage()
    wrong = []
    for hostile, code in AT_POST:
        for path in world.imports.iterdir():
            _remove(path)
        source = hostile(world)
        answer = await world.http.post(
            "/api/v1/templates", json={"name": "a", "os": "linux", "source": source}
        )
        body = answer.json()
        if (answer.status_code, body.get("code")) != (422, code):
            wrong.append((hostile.__name__, answer.status_code, body))
        elif not body["detail"]:
            wrong.append((hostile.__name__, "no text", body))
        assert SECRET.splitlines()[0] not in answer.text
    assert wrong == []
    assert (await world.http.get("/api/v1/jobs")).json()["total"] == 0
    await _nothing_is_left(world)


@pytest.mark.parametrize(
    ("hostile", "code"), IN_JOB, ids=lambda value: getattr(value, "__name__", "")
)
async def test_the_expensive_half_fails_the_job(world: World, hostile: Hostile, code: str) -> None:
    await world.make_storage()
    accepted = await world.start_import("a", **hostile(world))
    job = await world.job(accepted["job_id"])
    assert (job["state"], job["problem"]["code"]) == ("failed", code)
    assert job["problem"]["detail"]
    finished = (await world.hear(JobFinished))[0]
    assert (finished.state, finished.problem.code) == ("failed", code)
    await _nothing_is_left(world)
    # The name is free again.
    world.image("good.qcow2")
    assert (await world.job((await world.start_import("a", "good.qcow2"))["job_id"]))[
        "state"
    ] == "done"


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ({"upload": "u-1"}, "template.source-unsupported"),
        ({"desktop": "d-1"}, "template.source-unsupported"),
        ({}, "template.source-invalid"),
        ({"path": "a.qcow2", "upload": "u-1"}, "template.source-invalid"),
        ({"url": "http://example.test/a"}, "request.invalid"),
    ],
)
async def test_other_sources_are_refused(world: World, source: dict[str, Any], code: str) -> None:
    await world.make_storage()
    answer = await world.http.post(
        "/api/v1/templates", json={"name": "a", "os": "linux", "source": source}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    await _nothing_is_left(world)


def _patch(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def _truncate(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink()
