"""``python -m roost_host_agent``."""

from roost_common import service
from roost_host_agent import leaving
from roost_host_agent.bootstrap import build
from roost_host_agent.settings import Settings

if __name__ == "__main__":
    with leaving.at_once():
        service.main("host-agent", Settings, build)
