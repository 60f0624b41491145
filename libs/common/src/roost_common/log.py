"""Logs: structlog, one event a line; the event is a dotted constant, facts are keys."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
from pydantic import SecretStr
from structlog.contextvars import bind_contextvars, bound_contextvars, merge_contextvars
from structlog.typing import FilteringBoundLogger

__all__ = ["bind_contextvars", "bound_contextvars", "configure", "current", "get_logger"]

_SECRET_KEYS = frozenset({"password", "passwd", "ticket", "token", "authorization", "secret"})


def _mask_secrets(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """The last line of defence: whoever logs a secret by mistake logs stars."""
    for key, value in event.items():
        if key.lower() in _SECRET_KEYS or isinstance(value, SecretStr):
            event[key] = "********"
    return event


def configure(service: str, level: str = "info", *, json: bool = True) -> None:
    """Send all logs, also those of libraries, to stderr in one form."""
    shared: list[structlog.typing.Processor] = [
        merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _mask_secrets,
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer()
    )
    numeric = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(numeric, logging.WARNING))


def get_logger(name: str) -> FilteringBoundLogger:
    """The logger of a module; ``name`` becomes the key ``module``."""
    logger: FilteringBoundLogger = structlog.get_logger(module=name)
    return logger


def current(key: str) -> str | None:
    """What is bound under ``key`` in this context."""
    value = structlog.contextvars.get_contextvars().get(key)
    return None if value is None else str(value)
