"""Called by alembic."""

from alembic import context

from roost_common.db import run_environment

run_environment(context)  # type: ignore[arg-type]  # alembic's module stands for its object
