"""``python -m roost_broker``."""

from roost_broker.bootstrap import build
from roost_broker.migrations import MIGRATIONS
from roost_broker.settings import Settings
from roost_common import service

service.main("broker", Settings, build, migrations=MIGRATIONS)
