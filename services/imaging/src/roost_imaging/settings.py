"""What an operator sets: ``ROOST_IMAGING_…``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from roost_common.settings import CentralSettings

GIB: Final = 1 << 30
TIB: Final = 1 << 40


def _absolute(path: Path) -> Path:
    # Overlays name their base by its path: it must mean the same to everybody.
    if not path.is_absolute() or ".." in path.parts:
        raise ValueError("an absolute path without .. is needed")
    return path


Directory = Annotated[Path, AfterValidator(_absolute)]


class Settings(CentralSettings):
    """The settings of imaging."""

    model_config = SettingsConfigDict(env_prefix="ROOST_IMAGING_", extra="forbid", frozen=True)

    import_dir: Annotated[
        Directory, Field(description="The only directory from which images are imported by path")
    ]
    storage_root: Annotated[
        Directory, Field(description="Storage domains are directories inside this one")
    ]
    max_virtual_bytes: Annotated[
        int, Field(ge=1 << 20, description="Largest virtual disk that may be imported")
    ] = 2 * TIB
    min_free_bytes: Annotated[
        int, Field(ge=0, description="Reserve: with less free space a domain is full")
    ] = GIB
    storage_timeout_s: Annotated[
        float, Field(gt=0, le=120, description="After this a storage that is silent is unavailable")
    ] = 10.0
    capacity_interval_s: Annotated[
        float, Field(gt=0, le=600, description="How often the storage domains are looked at")
    ] = 10.0
    reaper_interval_s: Annotated[
        float, Field(gt=0, le=3600, description="How often leftovers go and overlays are measured")
    ] = 60.0
    recount_age_s: Annotated[
        float, Field(ge=0, description="An overlay is measured again when its figure is this old")
    ] = 600.0
    recount_batch: Annotated[
        int, Field(ge=1, le=10_000, description="Overlays measured in one pass")
    ] = 200
    jobs_parallel: Annotated[
        int, Field(ge=1, le=16, description="Jobs of this process at once")
    ] = 1
    job_lease_s: Annotated[
        float, Field(ge=2, le=300, description="A job whose worker is silent this long starts anew")
    ] = 15.0
    job_attempts: Annotated[
        int, Field(ge=1, le=10, description="Starts of a job whose workers die, before it fails")
    ] = 3
    job_timeout_s: Annotated[
        float, Field(gt=0, description="Longest time of one step of a job, such as a conversion")
    ] = 4 * 3600.0
    convert_bytes_per_s: Annotated[
        int,
        Field(
            ge=0, description="Most that an import reads and writes, for the desktops' sake; 0: all"
        ),
    ] = 0
    qemu_img_memory_bytes: Annotated[
        int, Field(ge=256 << 20, description="Address space of one qemu-img")
    ] = 2 * GIB
    qemu_img_info_cpu_s: Annotated[
        int, Field(ge=1, description="Processor seconds for reading an image's header")
    ] = 30
    qemu_img_job_cpu_s: Annotated[
        int, Field(ge=1, description="Processor seconds for checking or converting an image")
    ] = 2 * 3600
