"""The other end of sd_notify(3), with a real socket."""

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.uploader.uploader_samples import wait_until


class ServiceManager:
    """Reads what it is told."""

    def __init__(self, address: str) -> None:
        self.address = address
        """As in NOTIFY_SOCKET."""
        self.told: list[str] = []
        """Datagrams, in order."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)

    def listen(self) -> list[str]:
        """Take in what came, and forget nothing."""
        with suppress(BlockingIOError):
            while True:
                self.told.append(self._socket.recv(65536).decode())
        return self.told

    def hears(self, line: str) -> bool:
        """Whether it was told this line, which may end in ``…``."""
        self.listen()
        begins = line.endswith("…")
        found = [said for datagram in self.told for said in datagram.split("\n")]
        return any(said.startswith(line[:-1]) if begins else said == line for said in found)

    def wait_for(self, line: str) -> None:
        wait_until(lambda: self.hears(line), f"{line} among {self.told}")

    def forget(self) -> None:
        self.listen().clear()

    def close(self) -> None:
        self._socket.close()


@contextmanager
def service_manager(address: str | None = None) -> Iterator[ServiceManager]:
    with tempfile.TemporaryDirectory() as folder:  # a socket's path has at most 107 bytes
        manager = ServiceManager(address or str(Path(folder) / "notify"))
        try:
            yield manager
        finally:
            manager.close()
