"""The whole lab: bring it up part by part, take it down without a trace."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from roost_lab import fence_device, guest, machine, network, services, stray, supervisor, welcome
from roost_lab import site as sites
from roost_lab.ca import Authority
from roost_lab.demo import Demo
from roost_lab.errors import LabError
from roost_lab.front import Front
from roost_lab.machine import Machine
from roost_lab.node import Node
from roost_lab.process import Daemon, is_free, wait_for
from roost_lab.progress import say
from roost_lab.secrets import Secrets, write_private
from roost_lab.servers import Servers
from roost_lab.services import Services
from roost_lab.site import Copy, Site
from roost_lab.supervisor import Supervisor
from roost_lab.virtualisation import explain


class Lab:
    """One site's lab; every call may be repeated, and after a crash at any point."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.paths = site.paths
        self.secrets = Secrets(self.paths.secrets)
        self.supervisor = Supervisor(self.paths.socket("lab"), self.paths.log("supervisor"))
        self.nodes = [Node(site, plan, self.supervisor) for plan in site.nodes]
        self.machines = [self._machine(number) for number in site.machines]
        self.servers = Servers(site, self.supervisor)
        self.services = Services(site, self.secrets, self.servers.postgres, self.servers.rabbit)
        self.servers.rabbit.definitions = self.services.bus_definitions()
        self._configuration = self.paths.state / "supervisor/supervisord.conf"
        self.front = Front(site)
        self._daemon = Daemon(
            "the supervisor",
            self.paths.sockets / "supervisord.pid",
            self.paths.log("supervisor-console"),
        )

    def _machine(self, number: int) -> Machine:
        return Machine(self.paths, number, self.supervisor)

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
            self._prepare(authority)
            self._configure_supervisor()
            self.servers.start(self.services.make_accounts)
            say(f"nginx on 127.0.0.1:{sites.HTTP_PORT} and :{sites.HTTPS_PORT}")
            self.front.start(self.supervisor)
            self._start_services()
            self._start_nodes()
            if not image.done():
                say("the guest image is still in the making")
        accounts = welcome.variables(
            self.site, self.secrets, self.servers.postgres, self.servers.rabbit
        )
        write_private(self.paths.lab_env, welcome.as_shell(accounts))
        Demo(self.site, self.secrets, say).run(image.result())
        print(welcome.TEXT)

    def _end_strays(self) -> None:
        """After a crash of the supervisor nothing of the old lab may hold ports or files."""
        if not self.supervisor.answers():
            self._daemon.stop()
            for pid, name in stray.end(self.paths).items():
                say(f"ended {name} ({pid}), left over from before")
        else:
            for number in machine.numbers([*self.supervisor.states()]):
                if number not in self.site.machines:
                    say(f"{machine.PREFIX}{number} is no longer wanted and stops")
                    self._machine(number).shut_down()
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
            *(copy.port for copy in self.site.all_copies()),
        ):
            if not is_free(port):
                raise LabError(f"port {port} of 127.0.0.1 is in use by another program")

    def _prepare(self, authority: Authority) -> None:
        """Write the files of every part."""
        self.servers.prepare()
        for node in self.nodes:
            plan = self.site.node(node.name)
            node.prepare(authority, self.services.agent_environment(plan))
        for place in self.machines:
            copies = self.site.copies_on(place.number)
            place.prepare([self.services.program(copy) for copy in copies])
        self.front.prepare(authority)
        fence_device.collect_agents(self.paths)
        fence_device.make_honest(self.paths.fence)

    def _configure_supervisor(self) -> None:
        text = supervisor.render(
            [
                *self.servers.programs(),
                *(node.program() for node in self.nodes),
                *(place.program() for place in self.machines),
                self.front.program(),
            ],
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

    def migrate(self) -> None:
        """Bring the schemas of all services up to date."""
        say("migrations")
        environment = {"PATH": os.environ.get("PATH", "")}
        with ThreadPoolExecutor(max_workers=2) as pool:
            list(pool.map(lambda name: self.services.migrate(name, environment), services.CENTRAL))

    def _start_services(self) -> None:
        self.migrate()
        for place in self.machines:
            place.start()
        for place in self.machines:
            for copy in self.site.copies_on(place.number):
                say(f"{copy.name} on {copy.address}")
                self._wait_for_copy(place, copy)

    def _wait_for_copy(self, place: Machine, copy: Copy) -> None:
        place.init.signal(copy.name, "CONT")
        place.init.start(copy.name)
        wait_for(
            f"{copy.name} is ready",
            partial(services.is_ready, copy),
            timeout_s=120,
            log=self.paths.log(copy.name),
            gave_up=lambda: "it does not start" if place.init.state(copy.name) == "FATAL" else None,
        )

    def _start_nodes(self) -> None:
        for node in self.nodes:
            say(f"{node.name} at {node.address}")
            node.start()
            node.heal()

    # --- one part -----------------------------------------------------------------------------

    def keeper(self, program: str) -> tuple[Supervisor, str]:
        """Who keeps a program, and what it is called there.

        A program of a node, ``node-a-agent``, and a copy of a service are kept by the init of
        their machine; their pids are those there.
        """
        keeper, name = self._keeper(program)
        if not keeper.answers():
            raise LabError(f"{program}: what keeps it does not run")
        if name not in keeper.states():
            raise LabError(f"the lab has no program {program!r}")
        return keeper, name

    def _keeper(self, program: str) -> tuple[Supervisor, str]:
        for node in self.nodes:
            own = program.removeprefix(f"{node.name}-")
            if own != program:
                return node.init, own
        for place in self.machines:
            for copy in self.site.copies_on(place.number):
                if program in (copy.name, f"{copy.service}@{copy.number}"):
                    return place.init, copy.name
        return self.supervisor, program

    # --- down ---------------------------------------------------------------------------------

    def down(self) -> None:
        """End every process, and take namespaces, links and mounts away."""
        if self.supervisor.answers():
            known = self.supervisor.states()
            say(f"{Front.name} and {', '.join(services.CENTRAL)} stop")
            self.supervisor.stop_together([Front.name])
            places = [self._machine(number) for number in machine.numbers([*known])]
            with ThreadPoolExecutor() as pool:
                list(pool.map(Machine.shut_down, places))
            for node in self.nodes:
                if node.name in known:
                    say(f"{node.name} stops")
                    node.shut_down()
            self.servers.stop()
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
