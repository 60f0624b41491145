"""`python -m roost_imaging`: the imaging service."""

from roost_common import service
from roost_imaging.bootstrap import build
from roost_imaging.migrations import MIGRATIONS
from roost_imaging.settings import Settings

if __name__ == "__main__":
    service.main("imaging", Settings, build, migrations=MIGRATIONS)
