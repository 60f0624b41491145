"""``/api/v1/ha``: for administrators. Every copy answers, whoever decides."""

from roost_ha_monitor.api.fencing import FencingApi
from roost_ha_monitor.api.incidents import IncidentsApi
from roost_ha_monitor.api.watching import Api

__all__ = ["Api", "FencingApi", "IncidentsApi"]
