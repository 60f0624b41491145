"""What is shown of the settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from roost_broker.settings import Settings
from roost_common.settings import show


def test_every_setting_has_a_meaning_and_secrets_are_masked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROOST_BROKER_AMQP_URL", "amqp://broker:sesame@bus/roost")
    monkeypatch.setenv("ROOST_BROKER_DATABASE_URL", "postgresql+asyncpg://broker:sesame@db/roost")
    monkeypatch.setenv("ROOST_BROKER_LISTEN", "127.0.0.1:8101")
    monkeypatch.setenv("ROOST_BROKER_SIGNING_KEY_FILE", "/etc/roost/key")
    settings = Settings()
    text = show(settings)
    assert "sesame" not in text
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert f"ROOST_BROKER_{name.upper()}=" in text
    assert settings.signing_key_file == Path("/etc/roost/key")
    monkeypatch.setenv("ROOST_BROKER_TICKET_VALID_S", "61")
    with pytest.raises(ValidationError):
        Settings()
