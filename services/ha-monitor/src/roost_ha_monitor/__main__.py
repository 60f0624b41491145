"""``python -m roost_ha_monitor``."""

from roost_common import service
from roost_ha_monitor.bootstrap import build
from roost_ha_monitor.migrations import MIGRATIONS
from roost_ha_monitor.settings import Settings

if __name__ == "__main__":
    service.main("ha-monitor", Settings, build, migrations=MIGRATIONS)
