"""A QEMU virtual machine for the guest image's tests: its screen, serial line, agent and QMP."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.ocr import text_of
from tests.polling import wait_until

Json = Mapping[str, object]
PAUSE_S = 0.2
"""Between two looks at the guest: its emulator needs the processors more."""


class JsonSocket:
    """One JSON document a line, question and answer: QMP and the guest agent both speak so."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(180)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._lines = self._socket.makefile("rb")

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def send(self, document: Json) -> None:
        self._socket.sendall(json.dumps(document).encode() + b"\n")

    def receive(self) -> dict[str, object]:
        line = self._lines.readline()
        if not line:
            raise EOFError("the other side closed the connection")
        document = json.loads(line.lstrip(b"\xff"))
        assert isinstance(document, dict)
        return document

    def ask(self, command: str, **arguments: object) -> object:
        """The ``return`` of a command; events that come between are passed over."""
        self.send({"execute": command, "arguments": arguments})
        while True:
            document = self.receive()
            if "error" in document:
                raise RuntimeError(f"{command}: {document['error']}")
            if "return" in document:
                return document["return"]


class Machine:
    """A running guest; a context manager that ends it."""

    def __init__(
        self,
        overlay: Path,
        run: Path,
        *,
        video: str = "qxl-vga",
        memory_mib: int = 256,
        name: str = "demo-1",
        sku: str = "demo:1",
        agent: bool = True,
    ) -> None:
        run.mkdir(parents=True, exist_ok=True)
        self._run = run
        self._serial = run / "serial.log"
        self.started = time.monotonic()
        self._agents: list[JsonSocket] = []
        channel = ("-chardev", f"socket,id=agent,path={run / 'agent'},server=on,wait=off")
        port = ("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0")
        log = os.open(run / "qemu.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self._process = subprocess.Popen(
            (
                *("qemu-system-x86_64", "-nodefaults", "-no-user-config"),
                *("-machine", "q35,accel=tcg", "-cpu", "qemu64", "-m", str(memory_mib)),
                *("-smbios", f"type=1,manufacturer=Roost,serial={name},sku={sku},family=roost"),
                *("-drive", f"file={overlay},if=none,id=disk,format=qcow2"),
                *("-device", "virtio-blk-pci,drive=disk,bootindex=1"),
                *("-netdev", "user,id=net,restrict=on", "-device", "virtio-net-pci,netdev=net"),
                *("-device", "virtio-serial-pci", *((*channel, *port) if agent else ())),
                *("-display", "none", "-spice", f"unix=on,addr={run / 'spice'}"),
                *("-device", video),
                *("-serial", f"file:{self._serial}"),
                *("-qmp", f"unix:{run / 'qmp'},server=on,wait=off"),
            ),
            stdin=subprocess.DEVNULL,
            stderr=log,
        )
        os.close(log)
        self._qmp = wait_until(self._connect, "QEMU's monitor answers")
        self._qmp.receive()  # the greeting
        self._qmp.ask("qmp_capabilities")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for connection in (self._qmp, *self._agents):
            connection.close()
        self._process.kill()
        self._process.wait()

    def _connect(self) -> JsonSocket | None:
        if self._process.poll() is not None:
            raise AssertionError((self._run / "qemu.log").read_text())
        try:
            return JsonSocket(self._run / "qmp")
        except (FileNotFoundError, ConnectionRefusedError):
            return None

    def qmp(self, command: str, **arguments: object) -> object:
        return self._qmp.ask(command, **arguments)

    def type(self, text: str) -> None:
        """Press the keys for ``text`` (lower case letters, digits, spaces) and Enter."""
        for key in [*text.replace(" ", "\0"), "ret"]:
            name = "spc" if key == "\0" else key
            # QEMU itself waits so long after each press and each release: a PS/2 keyboard has a
            # short queue.
            self.qmp("send-key", keys=[{"type": "qcode", "data": name}], **{"hold-time": 40})

    def screen_text(self) -> str:
        """What OCR reads on the guest's screen now."""
        picture = self._run / "screen.png"
        self.qmp("screendump", filename=str(picture), format="png")
        return text_of(picture)

    def wait_for_screen(self, *lines: str, within: float = 180) -> str:
        """The screen's text once it has all of ``lines``."""

        def shown() -> str | None:
            text = self.screen_text()
            return text if all(line in text for line in lines) else None

        return wait_until(
            shown,
            lambda: f"{lines} on the screen, which shows {self.screen_text()!r}",
            within,
            pause=PAUSE_S,
        )

    def wait_for_serial(self, line: str, within: float = 180) -> None:
        def logged() -> bool:
            return line in self._serial.read_text(errors="replace")

        wait_until(logged, f"{line!r} on the serial line", within, pause=PAUSE_S)

    def agent(self) -> JsonSocket:
        """The guest agent, once it answers."""
        connection = JsonSocket(self._run / "agent")
        self._agents.append(connection)
        connection.send({"execute": "guest-ping"})
        assert connection.receive() == {"return": {}}
        return connection

    def wait_for_address(self, agent: JsonSocket, within: float = 60) -> None:
        """Return when DHCP has given the guest's network card an address."""

        def addressed() -> bool:
            return "'10.0.2.15'" in str(agent.ask("guest-network-get-interfaces"))

        wait_until(addressed, "an address on the network card", within, pause=PAUSE_S)

    def wait_for_event(self, name: str, within: float = 60) -> None:
        """Return when QEMU has told of an event since its last command was asked."""

        wait_until(lambda: self._qmp.receive().get("event") == name, f"QEMU tells {name}", within)

    def wait_for_end(self, within: float = 60) -> None:
        """Return when QEMU has ended by itself, as it does when its guest powers off."""
        code = self._process.wait(timeout=within)
        assert code == 0
