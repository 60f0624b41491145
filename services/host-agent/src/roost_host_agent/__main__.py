"""``python -m roost_host_agent``."""

from roost_common import service
from roost_host_agent.bootstrap import build
from roost_host_agent.settings import Settings

if __name__ == "__main__":
    service.main("host-agent", Settings, build)
