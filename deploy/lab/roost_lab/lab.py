"""The whole lab: bring it up part by part, take it down without a trace."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from roost_lab import guest, network, services, stray, supervisor, welcome
from roost_lab import site as sites
from roost_lab.ca import Authority
from roost_lab.demo import Demo
from roost_lab.errors import LabError
from roost_lab.front import Front
from roost_lab.node import Node
from roost_lab.paths import Paths
from roost_lab.postgres import PostgresServer
from roost_lab.process import Daemon, is_free, wait_for
from roost_lab.rabbitmq import RabbitServer, amqp_answers
from roost_lab.secrets import Secrets, write_private
from roost_lab.services import Services
from roost_lab.site import Site
from roost_lab.supervisor import Program, Supervisor
from roost_lab.virtualisation import explain

SERVERS = ("postgres", "epmd", "rabbitmq")
_STARTED = time.monotonic()


def say(text: str) -> None:
    """One line of progress."""
    print(f"[{time.monotonic() - _STARTED:6.1f} s] {text}", flush=True)


class Lab:
    """One site's lab; every call may be repeated, and after a crash at any point."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.paths = site.paths
        self.secrets = Secrets(self.paths.secrets)
        self.supervisor = Supervisor(self.paths.socket("lab"), self.paths.log("supervisor"))
        self.nodes = [Node(site, plan, self.supervisor) for plan in site.nodes]
        self.postgres = PostgresServer(self.paths.state / "postgres", sites.POSTGRES_PORT)
        self.rabbit = RabbitServer(
            self.paths.state / "rabbitmq",
            sites.AMQP_PORT,
            sites.ERLANG_PORT,
            addresses=("127.0.0.1", site.network.host_address),
        )
        self.services = Services(site, self.secrets, self.postgres, self.rabbit)
        self.rabbit.definitions = self.services.bus_definitions()
        self._configuration = self.paths.state / "supervisor/supervisord.conf"
        self.front = Front(self.paths)
        self._daemon = Daemon(
            "the supervisor",
            self.paths.sockets / "supervisord.pid",
            self.paths.log("supervisor-console"),
        )

    # --- up -----------------------------------------------------------------------------------

    def up(self) -> None:
        """Bring everything up; returns when a desktop has answered a SPICE handshake."""
        say(explain(self.site.virt_type))
        authority = Authority(self.paths.certs)
        self.site.network.up(self.paths.state)
        self._end_strays()
        self._check_ports()
        # The image takes a minute when it is made for the first time, and nobody needs it before
        # the demo.
        with ThreadPoolExecutor(max_workers=1) as beside:
            image = beside.submit(guest.build, self.paths)
            self._start_servers(authority)
            self._start_services()
            self._start_nodes()
            say(f"nginx on 127.0.0.1:{sites.HTTP_PORT} and :{sites.HTTPS_PORT}")
            self.front.start(self.supervisor)
            if not image.done():
                say("the guest image is still in the making")
        accounts = welcome.variables(self.site, self.secrets, self.postgres, self.rabbit)
        write_private(self.paths.lab_env, welcome.as_shell(accounts))
        Demo(self.site, self.secrets, say).run(image.result())
        print(welcome.TEXT)

    def _end_strays(self) -> None:
        """After a crash of the supervisor nothing of the old lab may hold ports or files."""
        if not self.supervisor.answers():
            self._daemon.stop()
            for pid, name in stray.end(self.paths).items():
                say(f"ended {name} ({pid}), left over from before")
        for name in network.leftovers():
            if name not in {node.name for node in self.nodes}:
                if self.supervisor.answers():
                    self.supervisor.stop(name)
                network.remove(name)

    def _check_ports(self) -> None:
        """Somebody else's server on a port of ours would answer in our name."""
        if self.supervisor.answers():
            return
        for port in (
            *(sites.HTTP_PORT, sites.HTTPS_PORT, sites.POSTGRES_PORT),
            *(sites.AMQP_PORT, sites.ERLANG_PORT, sites.ERLANG_PORT + 1),
            *sites.SERVICE_PORTS.values(),
        ):
            if not is_free(port):
                raise LabError(f"port {port} of 127.0.0.1 is in use by another program")

    def _start_servers(self, authority: Authority) -> None:
        self.postgres.prepare()
        ran = self.supervisor.answers() and self.supervisor.state("rabbitmq") == supervisor.RUNNING
        accounts_changed = self.rabbit.prepare()
        for node in self.nodes:
            plan = self.site.node(node.name)
            node.prepare(authority, self.services.agent_environment(plan))
        self.front.prepare(authority)
        self._configure_supervisor()
        for name in SERVERS:
            self.supervisor.start(name)
        say(f"PostgreSQL on 127.0.0.1:{self.postgres.port}")
        self._wait_for_server("postgres", self.postgres.answers)
        self.services.make_accounts()
        say(f"RabbitMQ on 127.0.0.1:{self.rabbit.port}")
        self._wait_for_server("rabbitmq", self._rabbit_answers)
        if ran and accounts_changed:
            self.rabbit.apply_definitions()

    def _rabbit_answers(self) -> bool:
        return all(amqp_answers(address, self.rabbit.port) for address in self.rabbit.addresses)

    def _wait_for_server(self, name: str, check: supervisor.Check) -> None:
        wait_for(name, check, timeout_s=180, log=self.paths.log(name), gave_up=self._failed(name))

    def _failed(self, name: str) -> supervisor.Reason:
        return lambda: "it does not start" if self.supervisor.state(name) == "FATAL" else None

    def _configure_supervisor(self) -> None:
        text = supervisor.render(
            self._programs(),
            socket_file=self.paths.socket("lab"),
            pid_file=self.paths.sockets / "lab.pid",
            log=self.paths.log("supervisor"),
        )
        self._configuration.parent.mkdir(exist_ok=True)
        write_private(self._configuration, text)
        if self.supervisor.answers():
            self.supervisor.update()
            return
        self.paths.socket("lab").unlink(missing_ok=True)
        self._daemon.start(
            [self.paths.supervisord, "-n", "-c", self._configuration],
            {
                "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME": os.environ.get("HOME", "/"),
                "LC_ALL": "C.UTF-8",
                stray.MARK: str(self.paths.state),
            },
        )
        wait_for(
            "the supervisor",
            self.supervisor.answers,
            timeout_s=30,
            log=self._daemon.log,
            gave_up=lambda: None if self._daemon.pid else "it ended",
        )

    def _programs(self) -> list[Program]:
        log = self.paths.log
        rabbit = self.rabbit.environment()
        return [
            Program(
                "postgres",
                tuple(self.postgres.command()),
                log("postgres"),
                environment=self.postgres.environment(),
                stop_signal="INT",  # "fast shutdown" in PostgreSQL's words
                priority=100,
            ),
            Program("epmd", tuple(self.rabbit.epmd_command()), log("epmd"), rabbit, priority=110),
            Program(
                "rabbitmq",
                tuple(self.rabbit.command()),
                log("rabbitmq"),
                environment=rabbit,
                stop_wait_s=60,
                priority=120,
            ),
            *(node.program() for node in self.nodes),
            *(self.services.program(service) for service in services.CENTRAL),
            self.front.program(),
        ]

    def migrate(self) -> None:
        """Bring the schemas of all services up to date."""
        say("migrations")
        environment = {"PATH": os.environ.get("PATH", "")}
        with ThreadPoolExecutor(max_workers=2) as pool:
            list(pool.map(lambda name: self.services.migrate(name, environment), services.CENTRAL))

    def _start_services(self) -> None:
        self.migrate()
        for service in services.CENTRAL:
            self.supervisor.start(service)
        for service in services.CENTRAL:
            say(f"{service} on 127.0.0.1:{sites.SERVICE_PORTS[service]}")
            wait_for(
                f"{service} is ready",
                partial(services.is_ready, service),
                timeout_s=120,
                log=self.paths.log(service),
                gave_up=self._failed(service),
            )

    def _start_nodes(self) -> None:
        for node in self.nodes:
            say(f"{node.name} at {node.address}")
            node.start()
            if network.is_cut(node.name):
                network.heal(node.name)

    # --- one program --------------------------------------------------------------------------

    def keeper(self, program: str) -> tuple[Supervisor, str]:
        """Who keeps a program, and what it is called there.

        A program of a node, ``node-a-agent``, is kept by the node's own init; its pid there is
        the node's, not the machine's.
        """
        for node in self.nodes:
            own = program.removeprefix(f"{node.name}-")
            if own != program:
                keeper, name = node.init, own
                break
        else:
            keeper, name = self.supervisor, program
        if not keeper.answers():
            raise LabError(f"{program}: what keeps it does not run")
        if name not in keeper.states():
            raise LabError(f"the lab has no program {program!r}")
        return keeper, name

    # --- down ---------------------------------------------------------------------------------

    def down(self) -> None:
        """End every process, and take namespaces, links and mounts away."""
        if self.supervisor.answers():
            known = self.supervisor.states()
            say(f"{Front.name} and {', '.join(services.CENTRAL)} stop")
            self.supervisor.stop_together([Front.name, *services.CENTRAL])
            for node in self.nodes:
                if node.name in known:
                    say(f"{node.name} stops")
                    node.shut_down()
            for name in [name for name in reversed(SERVERS) if name in known]:
                say(f"{name} stops")
                self.supervisor.stop(name)
        self._daemon.stop(timeout_s=60)
        for pid, name in stray.end(self.paths).items():
            say(f"ended {name} ({pid})")
        if network.owner_of_bridge() in (None, str(self.paths.state)):
            for name in network.leftovers():
                network.remove(name)
            self.site.network.down()
        self.paths.lab_env.unlink(missing_ok=True)
        shutil.rmtree(self.paths.sockets, ignore_errors=True)
        say("nothing of the lab runs any more; its data is kept in .roost")


def purge(paths: Paths) -> None:
    """Forget all data of a lab that is down; the cache stays."""
    for path in paths.state.iterdir() if paths.state.exists() else ():
        if path != paths.cache:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    say("the lab's data is gone; .roost/cache is kept")


@contextmanager
def exclusive(paths: Paths) -> Iterator[None]:
    """Only one ``up``, ``down`` or ``node`` at a time."""
    paths.state.mkdir(exist_ok=True)
    with Path(paths.state, "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LabError("another up, down or node command is at work") from error
        yield
