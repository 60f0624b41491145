"""The history of inventory's schema."""

from pathlib import Path

from roost_common.db import Migrations
from roost_inventory.model import Base

MIGRATIONS = Migrations("inventory", Path(__file__).parent, Base.metadata)
