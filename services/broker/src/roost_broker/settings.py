"""What can be set about broker, and what it does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from roost_broker.vv import ANY_USB_BUT_INPUT
from roost_common.settings import CentralSettings


class Settings(CentralSettings):
    """Environment variables ``ROOST_BROKER_…``."""

    model_config = SettingsConfigDict(env_prefix="ROOST_BROKER_", extra="forbid", frozen=True)

    signing_key_file: Annotated[
        Path, Field(description="Ed25519 private key, PEM, that signs access tokens")
    ]
    admin_password_file: Annotated[
        Path | None,
        Field(description="Password of the first administrator, `admin`, made at start"),
    ] = None
    token_lifetime_s: Annotated[
        int, Field(ge=60, le=86400, description="How long an access token is good for")
    ] = 3600

    login_failures_per_address: Annotated[
        int, Field(ge=1, description="Wrong passwords for one name from one address in a window")
    ] = 5
    login_failures_per_user: Annotated[
        int, Field(ge=1, description="Wrong passwords for one name from everywhere in a window")
    ] = 30
    login_window_s: Annotated[
        int, Field(ge=1, description="In this time a full count of wrong passwords is forgotten")
    ] = 60
    login_concurrency: Annotated[
        int, Field(ge=1, le=64, description="Passwords checked at once; each takes a core")
    ] = 2
    login_queue: Annotated[
        int, Field(ge=1, description="Passwords waiting to be checked before 503 is answered")
    ] = 500

    ticket_valid_s: Annotated[
        int, Field(ge=1, le=60, description="How long a SPICE password opens the screen")
    ] = 30
    display_deadline_s: Annotated[
        float, Field(gt=0, le=30, description="How long a node's agent has to open a screen")
    ] = 5.0
    pending_timeout_s: Annotated[
        int, Field(ge=1, description="Default of pools: a client that has not come is given up")
    ] = 120
    disconnect_timeout_s: Annotated[
        int, Field(ge=1, description="Default of pools: a session without client ends after this")
    ] = 3600
    launch_abandoned_s: Annotated[
        int,
        Field(ge=5, le=3600, description="A launch nobody asks about loses its place after this"),
    ] = 120
    wait_max_s: Annotated[
        int, Field(ge=0, le=600, description="Longest `Prefer: wait` that is honoured")
    ] = 60

    pool_interval_s: Annotated[
        float, Field(gt=0, description="Longest time between two looks at a pool in motion")
    ] = 2.0
    shrink_after_s: Annotated[
        int, Field(ge=0, description="How long a desktop too many stays before it is taken away")
    ] = 300
    sessions_kept_days: Annotated[
        int, Field(ge=1, description="How long ended sessions can be looked up")
    ] = 30

    viewer_versions: Annotated[
        str, Field(description="`versions` in .vv files: oldest viewers, as osid:version;…")
    ] = ""
    viewer_newer_version_url: Annotated[
        str, Field(description="`newer-version-url` in .vv files: where newer viewers are")
    ] = ""
    usb_filter: Annotated[
        str, Field(description="`usb-filter` in .vv files, in usbredir's syntax")
    ] = ANY_USB_BUT_INPUT
