"""What end-to-end tests hold in their hands: the lab, a person's API, a screen and its text."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from operator import ne
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
from tests import polling
from tests.ocr import text_of
from tests.polling import What

ROOT = Path(__file__).parents[2]
T = TypeVar("T")


def word() -> str:
    """A new name of letters that OCR seldom takes for others, as it does c and e."""
    return "".join(secrets.choice("abdhkmptx") for _ in range(8))


def legible(phrase: str, text: str) -> bool:
    """Whether ``phrase`` stands in what OCR has read, but for one letter in eight: it takes a w for
    a u now and then. Nobody else's name is so near."""
    wanted, found = ("".join(each.split()).lower() for each in (phrase, text))
    return any(
        sum(map(ne, wanted, found[start:])) <= len(wanted) // 8
        for start in range(len(found) - len(wanted) + 1)
    )


def wait_until(question: Callable[[], T | None], what: What, within: float) -> T:
    """`polling.wait_until` at a pace that leaves the lab its processors: every question is a
    request, a program or a whole screen."""
    return polling.wait_until(question, what, within, pause=0.2)


@dataclass(frozen=True)
class Lab:
    """A running lab, by the variables that it wrote."""

    variables: dict[str, str]

    @property
    def url(self) -> str:
        return self.variables["ROOST_URL"]

    @property
    def nodes(self) -> list[str]:
        return self.variables["ROOST_NODES"].split(",")

    @property
    def copies(self) -> int:
        """Of every central service."""
        return int(self.variables["ROOST_COPIES"])

    def node(self, name: str, verb: str, *words: str) -> None:
        """What ``deploy/lab/node`` does to a node: kill, start, cut, heal, freeze-agent …"""
        subprocess.run([ROOT / "deploy" / "lab" / "node", name, verb, *words], check=True)

    def on_node(self, name: str, *command: str) -> str:
        """What a command prints that is run on a node."""
        words = [str(ROOT / "deploy" / "lab" / "node"), name, "exec", *command]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    def domains(self, name: str) -> set[str]:
        """The libvirt domains that run on a node."""
        return set(self.on_node(name, "virsh", "list", "--name").split())

    def fence_device(self, node: str, behaviour: str) -> None:
        """How a node's fence device behaves from now on: works, fails, hangs, lies, idles."""
        self.node(node, "device", behaviour)

    def machine(self, number: int, verb: str) -> None:
        """Kill or start all copies of the services on one machine."""
        subprocess.run([ROOT / "deploy" / "lab" / "machine", str(number), verb], check=True)

    def service(self, program: str, verb: str) -> None:
        """What ``deploy/lab/service`` does to a program: kill, stop, start, freeze, thaw …"""
        subprocess.run([ROOT / "deploy" / "lab" / "service", program, verb], check=True)

    def crash(self, program: str) -> None:
        """SIGKILL one of the lab's programs; its supervisor starts it anew."""
        self.service(program, "kill")

    def runs(self, program: str) -> bool:
        """Whether it runs now."""
        command = [str(ROOT / "deploy" / "lab" / "service"), program, "pid"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode == 0 and done.stdout.strip() not in ("", "0")


class Api:
    """One person's view of Roost's HTTP API."""

    def __init__(
        self, url: str, user: str, password: str, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.user = user
        self.http = httpx.Client(base_url=url, timeout=70, trust_env=False, transport=transport)
        answer = self.http.post("/api/v1/auth/token", data={"username": user, "password": password})
        assert answer.status_code == 200, answer.text
        self.http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def get(self, path: str, **params: Any) -> Any:
        """The body of a successful GET."""
        answer = self.http.get(f"/api/v1{path}", params=params)
        assert answer.status_code == 200, f"{path}: {answer.text}"
        return answer.json()

    def items(self, path: str, **params: Any) -> list[dict[str, Any]]:
        """All items of a list, page by page."""
        found: list[dict[str, Any]] = []
        cursor = None
        while True:
            page = self.get(path, **params, **({"cursor": cursor} if cursor else {}))
            found += page["items"]
            cursor = page["next"]
            if cursor is None:
                return found

    def call(self, method: str, path: str, *expected: int, **body: Any) -> httpx.Response:
        """A request that must be answered with one of ``expected``."""
        answer = self.http.request(method, f"/api/v1{path}", **body)
        assert answer.status_code in expected, (
            f"{method} {path}: {answer.status_code} {answer.text}"
        )
        return answer

    def launch(self, pool: str, *, wait: int = 50, **body: Any) -> dict[str, Any]:
        """Launch and wait until the desktop is ready."""
        headers = {"Prefer": f"wait={wait}"}
        answer = self.call(
            "POST", "/launch", 200, 202, json={"pool": pool, **body}, headers=headers
        )

        def ready() -> dict[str, Any] | None:
            nonlocal answer
            if answer.status_code == 202:
                path = f"/launch/{answer.json()['launch_id']}"
                answer = self.call("GET", path, 200, 202, headers=headers)
            return answer.json() if answer.status_code == 200 else None

        return wait_until(ready, lambda: f"{self.user} has a desktop: {answer.text}", 120)

    def vv(self, pool: str) -> str:
        """The launch as a ``.vv`` file's text."""
        answer = self.call(
            "POST",
            "/launch",
            200,
            json={"pool": pool},
            headers={"Accept": "application/x-virt-viewer", "Prefer": "wait=50"},
        )
        return answer.text

    def log_off(self, session_id: str) -> None:
        """End a session."""
        self.call("DELETE", f"/sessions/{session_id}", 200, 202, 204)


def launch_until_ready(user: Api, pool: str) -> dict[str, Any]:
    """What a patient launcher does: ask again after every refusal and every broken connection."""
    ready: dict[str, Any] = {}

    def ask() -> bool:
        try:
            answer = user.http.post(
                "/api/v1/launch", json={"pool": pool}, headers={"Prefer": "wait=20"}
            )
        except httpx.TransportError:
            return False
        assert answer.status_code in (200, 202, 502, 503, 504), answer.text
        if answer.status_code == 200:
            ready.update(answer.json())
        return answer.status_code == 200

    wait_until(ask, f"{user.user} has a desktop", 300)
    return ready


@contextmanager
def users_for_a_while(admin: Api, log_on: LogOn) -> Iterator[NewUser]:
    """Makes users with a password of their own and no rights yet; takes all away at the end."""
    with ExitStack() as ending:

        def make() -> Api:
            name, password = f"user-{word()}", uuid4().hex
            admin.call("POST", "/users", 201, json={"name": name, "password": password})
            ending.callback(admin.call, "DELETE", f"/users/{name}", 204, 404)
            user = log_on(name, password)
            ending.callback(user.http.close)
            return user

        yield make


@contextmanager
def pool_for_a_while(lab: Lab, admin: Api, users: list[Api], **settings: Any) -> Iterator[str]:
    """A pool of small desktops that is open to these users, with the demo pool's template.

    ``settings`` go before what is said here. It goes at the end with all its desktops.
    """
    demo = admin.get(f"/pools/{lab.variables['ROOST_DEMO_POOL']}")
    body = {
        "name": word(),
        "kind": "automatic",
        "template": demo["template"],
        "min": 0,
        "max": 2,
        "spare": 1,
        "max_per_user": 1,
        "spec": {"vcpus": 1, "memory_mib": 192, "monitors": 1},
        **settings,
    }
    name = body["name"]
    admin.call("POST", "/pools", 201, json=body)
    try:
        entitled = [{"user": user.user} for user in users]
        admin.call("PUT", f"/pools/{name}/entitlements", 200, 204, json=entitled)
        yield name
    finally:
        admin.call("DELETE", f"/pools/{name}", 202, 204, 404, params={"force": "true"})
        wait_until(
            lambda: admin.http.get(f"/api/v1/pools/{name}").status_code == 404,
            f"pool {name} gone with its desktops",
            90,
        )


class Screen:
    """An X display with nobody in front of it but us."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        read, write = os.pipe()
        # -noreset: else it starts afresh whenever its last client has gone, and whoever connects
        # in that moment is turned away.
        self._server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x900x24", "-noreset"],
            pass_fds=[write],
            stderr=subprocess.DEVNULL,
        )
        os.close(write)
        with os.fdopen(read) as numbers:
            self.environment = {**os.environ, "DISPLAY": f":{numbers.readline().strip()}"}
        self._viewers: list[subprocess.Popen[str]] = []
        self._said = folder / f"viewers-{uuid4().hex}.log"
        self._said.touch()

    def view(self, vv: str, *options: str) -> subprocess.Popen[str]:
        """Open a ``.vv`` as a launcher does: on the viewer's standard input."""
        with self._said.open("a") as said:
            viewer = subprocess.Popen(
                ["remote-viewer", *options, "-"],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                text=True,
            )
        assert viewer.stdin is not None
        viewer.stdin.write(vv)
        viewer.stdin.close()
        self._viewers.append(viewer)
        return viewer

    def picture(self) -> Path:
        """What is on the screen now, as a PNG."""
        path = self.folder / f"{uuid4().hex}.png"
        subprocess.run(
            ["import", "-window", "root", path], env=self.environment, check=True, timeout=30
        )
        return path

    def text(self) -> str:
        """What is on the screen now, as OCR reads it."""
        return text_of(self.picture())

    def shows(self, *words: str, within: float = 90) -> str:
        """Wait until all of ``words`` can be read; returns the whole text."""
        return self._until(
            lambda text: all(legible(phrase, text) for phrase in words), str(words), within
        )

    def mark(self, text: str) -> None:
        """Have the desktop keep ``text`` on its disk, and wait until it says that it does.

        Its banner says so on a line of its own; what is typed stands behind the prompt before.
        """
        wanted = f"mark {text}"
        self.type(wanted)

        # A prompt is a name and "> ".
        room = len(wanted) + 4

        def kept(text: str) -> bool:
            lines = text.splitlines()
            return any(legible(wanted, line) and len(line) < room for line in lines)

        self._until(kept, f"a line {wanted!r}", 60)

    def _until(self, fits: Callable[[str], bool], what: str, within: float) -> str:
        last = ""

        def read() -> bool:
            nonlocal last
            last = self.text()
            return fits(last)

        def instead() -> str:
            ended = [viewer.poll() for viewer in self._viewers]
            return (
                f"{what} on the screen, which shows:\n{last}\nThe viewers ended with {ended} "
                f"and said:\n{self._said.read_text()}"
            )

        wait_until(read, instead, within)
        return last

    def type(self, text: str) -> None:
        """Type into whatever window has the focus, and press Return."""
        keys = ["xdotool", "type", "--delay", "60", text]
        subprocess.run(keys, env=self.environment, check=True, timeout=60)
        subprocess.run(["xdotool", "key", "Return"], env=self.environment, check=True, timeout=30)

    def close(self) -> None:
        """End the viewers and the display."""
        processes: list[subprocess.Popen[Any]] = [*self._viewers, self._server]
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=20)


LogOn = Callable[[str, str], Api]
NewUser = Callable[[], Api]
NewPool = Callable[..., AbstractContextManager[str]]
NewScreen = Callable[[], Screen]
