"""Broker's HTTP: a router per noun."""

from roost_broker.api import auth, groups, launch, me, pools, sessions, users

ROUTERS = (
    launch.router,
    auth.router,
    me.router,
    sessions.router,
    pools.router,
    users.router,
    groups.router,
)

__all__ = ["ROUTERS"]
