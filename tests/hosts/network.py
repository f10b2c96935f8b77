"""Hosts on one machine: network namespaces, each with one link to the namespace of the tests.

The servers of the tests listen on the loopback address alone. A host reaches one through a
forwarder on its gateway's address, and through nothing else, so that cutting the link cuts the host
off from everything without telling anybody: connections stay open and nothing arrives.

Needs to be root, and Debian's ``iproute2``.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import random
import selectors
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.acceptance.client import Client
from tests.acceptance.processes import Command, Installation

if TYPE_CHECKING:
    from collections.abc import Iterator

BUFFER = 1 << 16


def missing() -> str | None:
    """Return what keeps this machine from having hosts, if anything."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    if shutil.which("ip") is None:
        return "not installed: ip"
    return None


def ip(*arguments: str) -> None:
    """Run ``ip``."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@dataclass
class Network:
    """The link of one host.

    Attributes:
        namespace: name of the host's namespace.
        address: of the host.
        gateway: where the host finds the servers.
        prefix: the network both are in.
    """

    namespace: str
    address: str
    gateway: str
    prefix: str
    _link: str
    _forwarders: dict[int, Forwarder] = field(default_factory=dict)

    def reach(self, port: int) -> None:
        """Let the host reach a port of this machine's loopback address, at its gateway."""
        if port not in self._forwarders:
            self._forwarders[port] = Forwarder(self.gateway, port)

    def cut(self) -> None:
        """Lose everything that is sent from and to the host from now on."""
        ip("link", "set", self._link, "down")

    def mend(self) -> None:
        """Deliver again."""
        ip("link", "set", self._link, "up")

    def close(self) -> None:
        """Stop forwarding."""
        for forwarder in self._forwarders.values():
            forwarder.close()


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Make a host; it is gone at the end of the block."""
    for _ in range(100):
        number = random.randrange(1 << 14)
        namespace, link = f"gnocchi-{number}", f"gno{number}a"
        third, fourth = divmod(number * 4, 256)
        addresses = [f"10.213.{third}.{fourth + n}" for n in range(3)]
        made = Network(namespace, addresses[2], addresses[1], f"{addresses[0]}/30", link)
        try:
            ip("netns", "add", namespace)
            break
        except OSError as error:
            if "File exists" not in str(error):
                raise
    try:
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        ip("address", "add", f"{made.gateway}/30", "dev", link)
        ip("link", "set", link, "up")
        # While the link is down there must not be another way to the host's address.
        ip("route", "add", "blackhole", made.prefix, "metric", "4000")
        for command in (
            ("address", "add", f"{made.address}/30", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
        ):
            ip("-n", namespace, *command)
        yield made
    finally:
        made.close()
        with contextlib.suppress(OSError):
            ip("route", "delete", "blackhole", made.prefix)
        with contextlib.suppress(OSError):
            ip("link", "delete", link)
        ip("netns", "delete", namespace)


class Forwarder:
    """Carries bytes between connections to an address and a port of the loopback address.

    Args:
        address: where to listen.
        port: where to connect to.
        listen: port to listen on; the same by default.

    ``delay_s`` passes before a piece is carried on, and before more is read of where it came from;
    it may be changed. ``delayed`` counts these pieces.
    """

    def __init__(self, address: str, port: int, *, listen: int | None = None) -> None:
        self._port = port
        self.delay_s = 0.0
        self.delayed = 0
        self._listener = socket.create_server((address, listen or port), backlog=128)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake, wakes = socket.socketpair()
        self._selector.register(wakes, selectors.EVENT_READ)
        self._wakes = wakes
        self._stopping = False
        # when it is due, in order of arrival, from where, what
        self._waiting: list[tuple[float, int, socket.socket, bytes]] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and close all connections."""
        self._stopping = True
        self._wake.close()
        self._thread.join()

    def _run(self) -> None:
        others: dict[socket.socket, socket.socket] = {}
        while not self._stopping:
            for key, _ in self._selector.select(self._until_due_s()):
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                if ready is self._listener:
                    self._accept(others)
                elif ready in others:
                    self._receive(ready, others)
            while self._until_due_s() == 0.0:
                _, _, ready, data = heapq.heappop(self._waiting)
                if ready in others:
                    self._selector.register(ready, selectors.EVENT_READ)
                    self._carry(ready, data, others)
        for connection in others:
            connection.close()
        for rest in (self._listener, self._wakes):
            rest.close()
        self._selector.close()

    def _accept(self, others: dict[socket.socket, socket.socket]) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self._port), 5)
        except OSError:
            near.close()
            return
        # A host that is cut off reads nothing any more; that must not hold the others up.
        near.settimeout(1.0)
        far.settimeout(5.0)
        others[near], others[far] = far, near
        for connection in (near, far):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(connection, selectors.EVENT_READ)

    def _until_due_s(self) -> float | None:
        """How long until something that waits is to be carried on; None if there is nothing."""
        if not self._waiting:
            return None
        return max(0.0, self._waiting[0][0] - time.monotonic())

    def _receive(self, ready: socket.socket, others: dict[socket.socket, socket.socket]) -> None:
        try:
            data = ready.recv(BUFFER)
        except OSError:
            data = b""
        if self.delay_s:
            self._selector.unregister(ready)
            due = time.monotonic() + self.delay_s
            heapq.heappush(self._waiting, (due, self.delayed, ready, data))
            self.delayed += 1
        else:
            self._carry(ready, data, others)

    def _carry(
        self, ready: socket.socket, data: bytes, others: dict[socket.socket, socket.socket]
    ) -> None:
        """Carry data on, or the end of a connection."""
        other = others[ready]
        if data:
            with contextlib.suppress(OSError):
                other.sendall(data)
                return
        for connection in (ready, other):
            with contextlib.suppress(KeyError):  # something from it waits
                self._selector.unregister(connection)
            del others[connection]
            connection.close()


@dataclass
class Host(Installation):
    """The installed commands on a host, which has a configuration of its own."""

    network: Network | None = None

    def client(self, timeout_s: float = 60.0) -> Client:
        """Return a client of this host's API, on the machine of the tests."""
        assert self.network is not None
        return Client(self.port, timeout_s=timeout_s, host=self.network.address)

    def api(self) -> Command:
        """Return the API as a command that has not been started."""
        return HostCommand(self, "gnocchi-api")

    def metricd(self) -> Command:
        """Return metricd as a command that has not been started."""
        return HostCommand(self, "gnocchi-metricd")


class HostCommand(Command):
    """A command that runs in the namespace of its host."""

    def command(self) -> list[str]:
        """Return the command line."""
        host = self._installation
        assert isinstance(host, Host)
        assert host.network is not None
        return ["ip", "netns", "exec", host.network.namespace, *super().command()]
