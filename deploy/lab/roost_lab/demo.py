"""What the demo site consists of, made through the public HTTP interface as a customer would."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx

from roost_lab import fence_device, handshake, site
from roost_lab.errors import LabError
from roost_lab.secrets import Secrets
from roost_lab.services import ADMIN
from roost_lab.site import Site

STORAGE: Final = "main"
TEMPLATE: Final = "lab-linux"
POOL: Final = "demo"
USER: Final = "demo"
_POOL: Final = {
    "name": POOL,
    "kind": "automatic",
    "template": TEMPLATE,
    "min": 1,
    "max": 4,
    "spare": 1,
    "max_per_user": 1,
    "spec": {"vcpus": 1, "memory_mib": 256, "monitors": 1},
}
_POLL_S: Final = 0.5


class Demo:
    """Hosts approved, a template, a pool, a user, and the proof that the user gets a screen."""

    def __init__(self, plan: Site, secrets: Secrets, say: Callable[[str], None]) -> None:
        self._site = plan
        self._secrets = secrets
        self._say = say
        self._http = httpx.Client(
            base_url=f"http://localhost:{site.HTTP_PORT}/api/v1", timeout=120, trust_env=False
        )

    def run(self, image: Path) -> None:
        """Make what is missing, and end only when a desktop has opened its screen."""
        with self._http:
            self._log_on()
            self._approve_hosts()
            self._forget_hosts()
            self._give_fence_devices()
            self._make_storage()
            self._import_template(image)
            self._make_user()
            self._make_pool()
            self._open_a_screen()

    def _log_on(self) -> None:
        form = {"username": ADMIN, "password": self._secrets.password("admin-password")}
        answer = self._call("POST", "/auth/token", data=form)
        self._http.headers["Authorization"] = f"Bearer {answer['access_token']}"

    def _approve_hosts(self) -> None:
        wanted = {node.name for node in self._site.nodes}
        self._say(f"hosts {', '.join(sorted(wanted))}")

        def all_up() -> bool:
            hosts = {host["name"]: host for host in self._items("/hosts")}
            for name in wanted & hosts.keys():
                if hosts[name]["state"] == "pending_approval":
                    self._call("POST", f"/hosts/{name}/approve")
                if hosts[name]["state"] in ("maintenance", "preparing_maintenance"):
                    self._call("POST", f"/hosts/{name}/activate")
            return all(hosts.get(name, {}).get("state") == "up" for name in wanted)

        self._wait("the hosts are up", all_up, 120, "the log of a node's agent")

    def _forget_hosts(self) -> None:
        """Those of an earlier lab with more nodes, as far as nothing is left on them."""
        wanted = {node.name for node in self._site.nodes}
        for name in {str(host["name"]) for host in self._items("/hosts")} - wanted:
            self._http.post(f"/hosts/{name}/maintenance")
            gone = self._http.delete(f"/hosts/{name}").is_success
            self._say(f"{name} is {'forgotten' if gone else 'down, with desktops on it'}")

    def _give_fence_devices(self) -> None:
        """One to every host; or none to any, so that they rely on their leases."""
        self._say("fence devices" if self._site.fencing else "no fence devices")
        options = {
            "login": fence_device.LOGIN,
            "password": self._secrets.password(fence_device.PASSWORD),
        }
        for node in self._site.nodes:
            path = f"/ha/fencing/{node.name}"
            if self._site.fencing:
                device = {"agent": fence_device.AGENT, "options": {**options, "plug": node.name}}
                self._call("PUT", path, json=device)
            else:
                self._call("DELETE", path)

    def _make_storage(self) -> None:
        if self._exists(f"/storage/{STORAGE}"):
            return
        directory = self._site.paths.storage / STORAGE
        directory.mkdir(parents=True, exist_ok=True)
        self._say(f"storage domain {STORAGE}")
        self._call("POST", "/storage", json={"name": STORAGE, "path": str(directory)})

    def _import_template(self, image: Path) -> None:
        if not self._exists(f"/templates/{TEMPLATE}"):
            self._say(f"template {TEMPLATE} from {image.name}")
            body = {"name": TEMPLATE, "os": "linux", "source": {"path": image.name}}
            job = self._call("POST", "/templates", json=body)["job_id"]
            self._wait(
                "the template is imported", lambda: self._job_done(str(job)), 300, "imaging.log"
            )

        def ready() -> bool:
            return bool(self._call("GET", f"/templates/{TEMPLATE}")["state"] == "ready")

        self._wait("the template is ready", ready, 300, "imaging.log")

    def _job_done(self, job: str) -> bool:
        found = self._call("GET", f"/jobs/{job}")
        if found["state"] in ("failed", "cancelled"):
            raise LabError(
                f"the job {job} {found['state']}: {found['problem']}", self._log("imaging")
            )
        return bool(found["state"] == "done")

    def _make_user(self) -> None:
        if not self._exists(f"/users/{USER}"):
            self._say(f"user {USER}")
            password = self._secrets.password("demo-password")
            self._call("POST", "/users", json={"name": USER, "password": password})

    def _make_pool(self) -> None:
        if not self._exists(f"/pools/{POOL}"):
            self._say(f"pool {POOL}")
            self._call("POST", "/pools", json=_POOL)
        self._call("PUT", f"/pools/{POOL}/entitlements", json=[{"user": USER}])
        pool = self._call("GET", f"/pools/{POOL}")
        if not (pool["min"] or pool["spare"]):
            return  # somebody wants it so: it is made when it is asked for
        self._say("a spare desktop starts")

        def has_spare() -> bool:
            desktops = self._call("GET", f"/pools/{POOL}")["desktops"]
            return bool(desktops["free"] or desktops["assigned"])

        self._wait("a desktop runs", has_spare, 300, "inventory.log, broker.log")

    def _open_a_screen(self) -> None:
        self._say(f"{USER} launches, and the screen opens")
        account = (USER, self._secrets.password("demo-password"))
        launch = self._launched(account)
        spice = launch["spice"]
        try:
            screen = handshake.open_screen(
                spice["host"],
                spice["tls_port"],
                spice["password"],
                spice["ca"],
                spice.get("host_subject", ""),
            )
        except (handshake.SpiceError, OSError) as error:
            raise LabError(
                f"the screen of {launch['desktop']['name']} at "
                f"{spice['host']}:{spice['tls_port']} does not open: {error}"
            ) from error
        self._say(
            f"{launch['desktop']['name']} answered: SPICE session {screen.session_id}, "
            f"{screen.display_channels} display"
        )
        self._call("DELETE", f"/sessions/{launch['session_id']}")

    def _launched(self, account: tuple[str, str]) -> dict[str, Any]:
        deadline = time.monotonic() + 300
        wish: tuple[str, str, dict[str, Any] | None] = ("POST", "/launch", {"pool": POOL})
        while True:
            method, path, body = wish
            answer = self._http.request(
                method,
                path,
                json=body,
                auth=account,
                headers={"Prefer": "wait=60"},
            )
            if answer.status_code == 200:
                return dict(answer.json())
            if answer.status_code == 202:
                wish = ("GET", f"/launch/{answer.json()['launch_id']}", None)
            elif answer.status_code != 503:
                raise _refusal(method, path, answer, self._log("broker"))
            if time.monotonic() > deadline:
                raise _refusal(method, path, answer, self._log("broker"))
            time.sleep(_POLL_S)

    # --- HTTP ---------------------------------------------------------------------------------

    def _call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """One call; a service that is just coming up is asked again for a while."""
        deadline = time.monotonic() + 30
        while True:
            answer = self._http.request(method, path, **request)
            if answer.status_code != 503 or time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
        if answer.is_error:
            raise _refusal(method, path, answer, self._site.paths.logs)
        return dict(answer.json()) if answer.content and _is_object(answer) else {}

    def _items(self, path: str) -> list[dict[str, Any]]:
        return list(self._call("GET", path)["items"])

    def _exists(self, path: str) -> bool:
        answer = self._http.get(path)
        if answer.status_code == 404:
            return False
        if answer.is_error:
            raise _refusal("GET", path, answer, self._site.paths.logs)
        return True

    def _wait(self, what: str, check: Callable[[], bool], timeout_s: float, where: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not check():
            if time.monotonic() > deadline:
                raise LabError(
                    f"{what}: not within {timeout_s:g} s ({where})", self._site.paths.logs
                )
            time.sleep(_POLL_S)

    def _log(self, program: str) -> Path:
        return self._site.paths.log(program)


def _is_object(answer: httpx.Response) -> bool:
    return "json" in answer.headers.get("content-type", "") and isinstance(answer.json(), dict)


def _refusal(method: str, path: str, answer: httpx.Response, log: Path) -> LabError:
    return LabError(f"{method} {path}: {answer.status_code} {answer.text.strip()[:500]}", log)
