"""Broker's HTTP: a router per noun."""

from roost_broker.api import auth, groups, launch, me, pools, sessions, users

ROUTERS = (
    auth.router,
    me.router,
    launch.router,
    sessions.router,
    pools.router,
    users.router,
    groups.router,
)

__all__ = ["ROUTERS"]
