"""The schema `imaging` and how it came to be."""

from pathlib import Path

from roost_common.db import Migrations
from roost_imaging.model import Base

MIGRATIONS = Migrations("imaging", Path(__file__).parent, Base.metadata)
