"""The front: one address for everything, by nginx. `render` makes its configuration, purely."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Final

from roost_lab import site as sites
from roost_lab import supervisor
from roost_lab.ca import Authority
from roost_lab.errors import LabError
from roost_lab.process import find
from roost_lab.site import Site
from roost_lab.supervisor import Program, Supervisor

ROUTES: Final = {
    "broker": ("auth", "me", "launch", "sessions", "pools", "users", "groups"),
    "inventory": (
        "hosts",
        "clusters",
        "desktops",
        "migrations",
        "search",
        "events",
        "stream",
        "bulk",
    ),
    "imaging": ("storage", "templates", "images", "snapshots", "backups", "jobs"),
    "ha-monitor": ("ha",),
}
"""Which service answers for which first word after ``/api/v1/``."""
MAX_TRIES: Final = sites.MAX_COPIES
FAILED_S: Final = 2
"""How long a copy that could not be reached is passed over; then one request tries it again."""
_LONGEST_WAIT_S: Final = 330
"""Longer than any ``Prefer: wait`` that a service grants: the front must not give up first."""


class Front:
    """The lab's nginx: its files, and the one program that it is."""

    name: Final = "nginx"

    def __init__(self, site: Site) -> None:
        self._site = site
        self._paths = site.paths
        self._directory = site.paths.state / "nginx"
        self._configuration = self._directory / "nginx.conf"

    def prepare(self, authority: Authority) -> None:
        """Write its configuration and certificate."""
        self._directory.mkdir(exist_ok=True)
        certificate = self._paths.certs / "front.pem"
        key = self._paths.certs / "front-key.pem"
        authority.issue(certificate, key, "localhost", "localhost", "127.0.0.1")
        copies = self._site.all_copies()
        text = render(
            directory=self._directory,
            www=self._paths.repository / "deploy/lab/www",
            certificate=certificate,
            key=key,
            http_port=sites.HTTP_PORT,
            https_port=sites.HTTPS_PORT,
            upstreams={
                name: [copy.address for copy in copies if copy.service == name] for name in ROUTES
            },
        )
        self._configuration.write_text(text)

    def program(self) -> Program:
        """What the supervisor is to keep."""
        return Program(
            self.name,
            command(self._configuration),
            self._paths.log(self.name),
            stop_group=True,
            stop_wait_s=5,
            priority=900,
        )

    def start(self, keeper: Supervisor) -> None:
        """Start it with the configuration of now; returns when it runs."""
        keeper.stop(self.name)  # it may run with an older one
        keeper.start(self.name)
        keeper.wait_until(self.name, {supervisor.RUNNING})


def render(
    *,
    directory: Path,
    www: Path,
    certificate: Path,
    key: Path,
    http_port: int,
    https_port: int,
    upstreams: Mapping[str, Sequence[str]],
) -> str:
    """The text of nginx.conf; ``upstreams`` are the addresses of each service's copies."""
    groups = "\n".join(_upstream(name, upstreams[name]) for name in ROUTES)
    routes = "\n".join(_location(name, words) for name, words in ROUTES.items())
    temporary = "\n".join(
        f"    {kind}_temp_path {_quoted(directory / kind)};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""\
user root;
worker_processes 2;
daemon off;
pid {_quoted(directory / "nginx.pid")};
error_log stderr warn;

events {{
    worker_connections 4096;
}}

http {{
    server_tokens off;
    access_log {_quoted(directory / "access.log")} combined;
{temporary}
    types {{
        text/html html;
        text/css css;
        image/svg+xml svg;
    }}
    default_type application/octet-stream;

    # A caller may name its request, so that its own log and ours can be laid side by side.
    map $http_x_request_id $roost_request_id {{
        default $request_id;
        "~^[A-Za-z0-9._-]{{1,64}}$" $http_x_request_id;
    }}

{groups}
    server {{
        listen 127.0.0.1:{http_port};
        listen 127.0.0.1:{https_port} ssl;
        server_name localhost;
        ssl_certificate {_quoted(certificate)};
        ssl_certificate_key {_quoted(key)};
        ssl_protocols TLSv1.2 TLSv1.3;

        client_max_body_size 1m;
        client_body_timeout 15s;
        client_header_timeout 15s;

        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        # The front is the first to know the client: what it claims of others before it is dropped.
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Request-Id $roost_request_id;
        proxy_connect_timeout 1s;
        proxy_send_timeout 30s;
        proxy_read_timeout {_LONGEST_WAIT_S}s;
        # Another copy is asked where the first has certainly not begun to work: it could not be
        # reached. Where it died or fell silent with a request that changes nothing if it is
        # repeated (not POST, not PATCH), too. What it answers is no failure: 503 means that the
        # site is short of something, and a copy that stops closes its port first.
        proxy_next_upstream error timeout;
        proxy_next_upstream_tries {MAX_TRIES};
        # Answers are small, and events are to arrive when they happen.
        proxy_buffering off;

        error_page 502 504 = @unavailable;
        error_page 413 = @too_large;
        error_page 400 414 494 = @malformed;

        location / {{
            root {_quoted(www)};
            index index.html;
        }}

        location /api/ {{
            default_type application/problem+json;
            return 404 '{_problem(404, "request.no-such-path", "There is nothing at this path.")}';
        }}
{routes}
        location @unavailable {{
            internal;
            default_type application/problem+json;
            add_header Retry-After 1 always;
            return 503 '{_problem(503, "service.unavailable", "This part does not answer.")}';
        }}

        location @malformed {{
            internal;
            default_type application/problem+json;
            return 400 '{_problem(400, "request.malformed", "This is no request of HTTP.")}';
        }}

        location @too_large {{
            internal;
            default_type application/problem+json;
            return 413 '{_problem(413, "request.too-large", "The body is larger than 1 MiB.")}';
        }}
    }}
}}
"""


def command(configuration: Path) -> tuple[str, ...]:
    """The argv of nginx in the foreground.

    Its workers outlive a master that is killed and keep the ports, and nothing tells whose they
    are; in a PID namespace of their own they end with it.
    """
    alone = (str(find("unshare")), "--pid", "--fork", "--kill-child=KILL")
    return (*alone, str(find("nginx")), "-c", str(configuration), "-p", str(configuration.parent))


def _upstream(name: str, addresses: Sequence[str]) -> str:
    # nginx itself never passes over the only one.
    rule = f"max_fails=1 fail_timeout={FAILED_S}s"
    servers = "\n".join(f"        server {address} {rule};" for address in addresses)
    return f"    upstream {name} {{\n{servers}\n        keepalive 16;\n    }}\n"


def _location(name: str, words: Sequence[str]) -> str:
    return (
        f"\n        location ~ ^/api/v1/({'|'.join(words)})(/|$) {{\n"
        f"            proxy_pass http://{name};\n"
        "        }\n"
    )


def _problem(status: int, code: str, detail: str) -> str:
    problem = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    return json.dumps(problem)


def _quoted(path: Path) -> str:
    text = str(path)
    if any(character in text for character in '"\\$\n'):
        raise LabError(f"nginx cannot be told the path {text!r}")
    return f'"{text}"'
