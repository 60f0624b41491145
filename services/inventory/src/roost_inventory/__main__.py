"""``python -m roost_inventory``."""

from roost_common import service
from roost_inventory.bootstrap import build
from roost_inventory.migrations import MIGRATIONS
from roost_inventory.settings import Settings

if __name__ == "__main__":
    service.main("inventory", Settings, build, migrations=MIGRATIONS)
