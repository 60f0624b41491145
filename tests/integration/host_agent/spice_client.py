"""A SPICE client's main channel, for as long as a test keeps it."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

from roost_common.contracts.desktop import SpiceAddress
from roost_lab.handshake import SpiceError, open_main_channel

PERMISSION_DENIED = "permission denied"


@dataclass
class SpiceSession:
    """One attempt; ``refused`` is empty when it was let in."""

    stream: socket.socket
    refused: str

    @property
    def accepted(self) -> bool:
        """Whether the ticket was right."""
        return not self.refused

    async def close(self) -> None:
        """Leave."""
        await asyncio.to_thread(self.stream.close)

    async def closed_by_server(self) -> bool:
        """Wait until the server cuts the connection; False when it does not."""
        try:
            while await asyncio.to_thread(self.stream.recv, 4096):
                pass
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        finally:
            self.stream.close()
        return True


async def connect(spice: SpiceAddress, password: str) -> SpiceSession:
    """Try to open the screen over the plain port."""
    return await asyncio.to_thread(_connect, spice, password)


def _connect(spice: SpiceAddress, password: str) -> SpiceSession:
    assert spice.port is not None
    stream = socket.create_connection((spice.host, spice.port), timeout=10)
    try:
        open_main_channel(stream, password)
    except SpiceError as error:
        stream.close()
        if PERMISSION_DENIED not in str(error):
            raise
        return SpiceSession(stream, str(error))
    return SpiceSession(stream, "")
