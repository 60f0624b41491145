"""What the image is made of, and the build itself: downloaded, unpacked, packed, cached."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from guest import cpio, disk, kernel, packages, userland
from guest.packages import Package
from guest.tools import BuildError, missing, run

HERE = Path(__file__).resolve().parent
KERNEL = "linux-image-amd64"


def build(output: Path, *, cache: Path) -> bool:
    """Write the image to ``output``; whether it had to be made (``False``: it was in the cache).

    ``output`` appears whole or not at all. Builds that share a cache take turns.
    """
    if absent := missing():
        raise BuildError(f"install these packages first: {' '.join(absent)}")
    chosen = choose()
    image = cache / f"{fingerprint(chosen)}.qcow2"
    cache.mkdir(parents=True, exist_ok=True)
    with _exclusive(cache / "lock"):
        made = not image.exists()
        if made:
            _make(image, chosen, cache=cache)
        with _appearing(output) as partial:
            shutil.copyfile(image, partial)
    return made


def choose() -> list[Package]:
    """The packages of the image at the versions that apt offers today."""
    kernel_package = packages.kernel_name(KERNEL)
    return packages.candidates(
        [kernel_package, "busybox-static", *packages.with_libraries("qemu-guest-agent")]
    )


def fingerprint(chosen: list[Package]) -> str:
    """The same for the same packages and the same files of this folder, else different."""
    digest = hashlib.sha256()
    for package in chosen:
        digest.update(f"{package.name}={package.version}\n".encode())
    for source in _sources():
        executable = os.access(source, os.X_OK)
        content = source.read_bytes()
        digest.update(f"{source.relative_to(HERE)} {executable} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _sources() -> list[Path]:
    return sorted(
        path for path in HERE.rglob("*") if path.is_file() and path.suffix not in {".md", ".pyc"}
    )


def _make(image: Path, chosen: list[Package], *, cache: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache, prefix="build-") as folder:
        work = Path(folder)
        tree, root = work / "packages", work / "root"
        packages.unpack(chosen, downloads=cache / "packages", tree=tree)
        userland.assemble(tree, root, skeleton=HERE / "rootfs", packages=chosen)
        (packed,) = (tree / "boot").glob("vmlinuz-*")
        plain = kernel.unpacked(packed.read_bytes(), work=work)
        with _appearing(image) as partial:
            disk.write(partial, kernel=plain, initramfs=_initramfs(root, work), work=work)


def _initramfs(root: Path, work: Path) -> bytes:
    # Tried: plain, gzip and lz4 start no sooner, and make the image up to 13 MB larger.
    plain, packed = work / "initramfs.cpio", work / "initramfs.cpio.zst"
    plain.write_bytes(cpio.pack(root))
    run("zstd", "-q", "-19", str(plain), "-o", str(packed))
    return packed.read_bytes()


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """A place to write beside ``path``, which takes its name when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
