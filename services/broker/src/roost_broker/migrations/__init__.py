"""Broker's schema and the steps that lead to it."""

from pathlib import Path

from roost_broker.model import Base
from roost_common.db import Migrations

MIGRATIONS = Migrations("broker", Path(__file__).parent, Base.metadata)
