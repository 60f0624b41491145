"""``/api/v1/ha``: for administrators. Every copy answers, whoever decides."""

from roost_ha_monitor.api.watching import Api

__all__ = ["Api"]
