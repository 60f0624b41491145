"""Settings: environment variables with one prefix per service, shown by ``--show-config``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """What every process has. A service derives from it with ``env_prefix="ROOST_<SERVICE>_"``."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    amqp_url: Annotated[SecretStr, Field(description="Where the bus is: amqp://user:pw@host/vhost")]
    listen: Annotated[
        str, Field(pattern=r"^[^:]+:\d+$", description="host:port of this service's HTTP")
    ]
    log_level: Annotated[
        str, Field(pattern="^(debug|info|warning|error)$", description="Least severity logged")
    ] = "info"
    log_json: Annotated[bool, Field(description="JSON lines; false prints for people")] = True
    prefetch: Annotated[
        int, Field(ge=1, le=1000, description="Messages handled at once by this process")
    ] = 16

    @property
    def listen_host(self) -> str:
        """Address to bind."""
        return self.listen.rsplit(":", 1)[0]

    @property
    def listen_port(self) -> int:
        """Port to bind."""
        return int(self.listen.rsplit(":", 1)[1])


class CentralSettings(ServiceSettings):
    """What the four services with a database have besides."""

    database_url: Annotated[SecretStr, Field(description="postgresql+asyncpg://user:pw@host/db")]
    database_pool: Annotated[
        int, Field(ge=1, le=200, description="Database connections this process keeps")
    ] = 10
    jwks_url: Annotated[
        str, Field(description="Where broker publishes the keys that sign access tokens")
    ] = "http://127.0.0.1:8101/api/v1/auth/jwks"


def show(settings: BaseSettings) -> str:
    """One ``NAME=value  # effect`` line per setting, secrets masked."""
    prefix = settings.model_config.get("env_prefix", "")
    lines = []
    for name, info in type(settings).model_fields.items():
        value: Any = getattr(settings, name)
        text = "********" if isinstance(value, SecretStr) else str(value)
        line = f"{prefix}{name}".upper() + f"={text}"
        lines.append(f"{line}  # {info.description}" if info.description else line)
    return "\n".join(lines)
