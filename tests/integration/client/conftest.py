"""A server that answers as docs/ and the OpenAPI documents say, on a real port; and the command."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pty
import select
import socket
import stat
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from tests.polling import wait_until
from typer import testing as typer_testing
from typer.main import get_command

from roost_client import Roost
from roost_client.cli.main import app

VIEWER_FILE = "[virt-viewer]\ntype=spice\nhost=10.0.0.1\nport=5900\npassword=s3cr3t\nfullscreen=0\n"
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]

Answer = Callable[[Request, bytes], Response]


def problem(status: int, code: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    """RFC 9457, as every service answers."""
    body = {"type": "about:blank", "title": "No", "status": status, "detail": detail, "code": code}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


@dataclass
class Site:
    """What the server holds, and what it was asked."""

    url: str = ""
    token: str = "good-token"
    password: str = "right horse"
    lists: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    answers: dict[tuple[str, str], deque[Answer]] = field(default_factory=dict)
    page: int = 2

    def next(self, method: str, path: str, *answers: Answer | Response) -> None:
        """The next answers to this request, in order; the last stays."""
        functions = [
            answer if not isinstance(answer, Response) else (lambda _r, _b, a=answer: a)
            for answer in answers
        ]
        self.answers[method, path] = deque(functions)

    def of(self, method: str, path: str) -> list[Asked]:
        """What was asked there."""
        return [asked for asked in self.asked if (asked.method, asked.path) == (method, path)]

    async def handle(self, request: Request) -> Response:
        body = await request.body()
        path = request.url.path
        self.asked.append(
            Asked(request.method, path, dict(request.query_params), dict(request.headers), body)
        )
        if path == "/api/v1/auth/token":
            return await self._log_in(request)
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return problem(401, "auth.token-invalid", "The token is not valid.")
        canned = self.answers.get((request.method, path))
        if canned:
            return (canned.popleft() if len(canned) > 1 else canned[0])(request, body)
        return self._collection(request)

    async def _log_in(self, request: Request) -> Response:
        form = dict(await request.form())
        if form != {"grant_type": "password", "username": "alice", "password": self.password}:
            return problem(401, "auth.wrong-password", "The name or the password is wrong.")
        return JSONResponse(
            {"access_token": self.token, "token_type": "bearer", "expires_in": 3600}
        )

    def _collection(self, request: Request) -> Response:
        noun, _, name = request.url.path.removeprefix("/api/v1/").partition("/")
        key = f"{noun}/{name}" if f"{noun}/{name}" in self.lists else noun
        items = self.lists.get(key)
        if items is None or request.method != "GET":
            return problem(404, "request.no-such-path", "Not found.")
        if key == noun and name:
            for item in items:
                if name in (item.get("name"), item.get("id"), item.get("node")):
                    return JSONResponse(item)
            return problem(404, f"{noun}.unknown", f"There is no {name}.")
        start = int(request.query_params.get("cursor", "0"))
        end = start + self.page
        following = str(end) if end < len(items) else None
        return JSONResponse({"items": items[start:end], "next": following, "total": len(items)})


@pytest.fixture
def site() -> Iterator[Site]:
    """The server, running."""
    site = Site()
    routes = [Route("/{path:path}", site.handle, methods=METHODS)]
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(Starlette(routes=routes), log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "the server starts")
    site.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    yield site
    server.should_exit = True
    thread.join(10)
    listener.close()


@pytest.fixture
def roost(site: Site) -> Iterator[Roost]:
    """The library, logged in."""
    with Roost(site.url, token=site.token) as roost:
        yield roost


@dataclass
class Ran:
    """One run of the command."""

    exit_code: int
    out: str
    err: str
    echo: str = ""
    """What a terminal showed of what was typed."""

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Ran]

# Typer reads every command's signature to build them, which costs more than to run one.
_built = functools.cache(get_command)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """XDG_STATE_HOME of the command."""
    return tmp_path / "state"


@pytest.fixture
def cli(site: Site, state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command, with an address and a token in its environment unless told otherwise."""
    for name in list(os.environ):
        if name.startswith("ROOST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(state_dir))
    monkeypatch.setattr(typer_testing, "_get_command", _built)
    runner = typer_testing.CliRunner()

    def run(*arguments: str, token: bool = True, url: bool = True, stdin: str = "") -> Ran:
        environment = {"ROOST_URL": site.url} if url else {}
        environment |= {"ROOST_TOKEN": site.token} if token else {}
        result = runner.invoke(app, list(arguments), env=environment, input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def at_terminal(site: Site, state_dir: Path) -> Cli:
    """The command with a person at its terminal, who types each answer after its prompt."""

    def run(*arguments: str, answers: list[tuple[str, str]]) -> Ran:
        person, terminal = pty.openpty()
        program = "from roost_client.cli.main import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env={
                "PATH": os.environ["PATH"],
                "XDG_STATE_HOME": str(state_dir),
                "ROOST_URL": site.url,
                "ROOST_TOKEN": site.token,
            },
            # Without a controlling terminal, so that nothing is read from that of the tests.
            start_new_session=True,
        )
        try:
            err = b""
            for prompt, answer in answers:
                err += _until(process, prompt.encode())
                os.write(person, f"{answer}\n".encode())
            out, rest = process.communicate(timeout=30)
            os.set_blocking(person, False)
            echo = b""
            with contextlib.suppress(BlockingIOError):
                echo = os.read(person, 65536)
        finally:
            process.kill()
            process.communicate()
            os.close(person)
            os.close(terminal)
        return Ran(process.returncode, out.decode(), (err + rest).decode(), echo.decode())

    return run


def _until(process: subprocess.Popen[bytes], prompt: bytes) -> bytes:
    """Standard error up to a prompt."""
    assert process.stderr is not None
    said = b""
    ends = time.monotonic() + 30
    while prompt not in said:
        ready, _, _ = select.select([process.stderr], [], [], max(0, ends - time.monotonic()))
        assert ready, f"no {prompt!r} came: {said!r}"
        more = os.read(process.stderr.fileno(), 4096)
        assert more, f"it ended without {prompt!r}: {said!r}"
        said += more
    return said


@pytest.fixture
def viewer(tmp_path: Path) -> tuple[Path, Path]:
    """A viewer that keeps what it was given: the command, and where it writes."""
    record = tmp_path / "viewer-record"
    script = tmp_path / "viewer"
    script.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\n"
        f"pathlib.Path({str(record)!r}).write_text(repr(sys.argv[1:]) + '\\n' + sys.stdin.read())\n"
        "sys.exit(7 if '--fail' in sys.argv else 0)\n"
    )
    script.chmod(0o755)
    return script, record


def viewer_answer() -> Response:
    """A desktop is ready."""
    return PlainTextResponse(VIEWER_FILE, media_type="application/x-virt-viewer")


def queued(position: int) -> Response:
    """Not yet."""
    body = {"launch_id": "l-1", "state": "queued", "position": position, "retry_after_ms": 50}
    return JSONResponse(body, 202, {"Retry-After": "1"})


@pytest.fixture
def answers() -> dict[str, Any]:
    """Ways to answer, for tests."""
    return {
        "viewer_file": viewer_answer,
        "queued": queued,
        "problem": problem,
        "json": JSONResponse,
    }


@pytest.fixture
def mode() -> Callable[[Path], int]:
    """A file's permissions."""
    return lambda path: stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def nothing_left(tmp_path: Path) -> Callable[[str], list[Path]]:
    """Files under the test's directory that hold a text."""

    def holding(text: str) -> list[Path]:
        found = []
        for path in tmp_path.rglob("*"):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                if path.is_file() and text in path.read_text():
                    found.append(path)
        return found

    return holding
