"""Servers, and disks, that answer slowly: everything takes longer, and the books are right."""

from __future__ import annotations

import contextlib
import copy
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests import backends, servers
from tests.acceptance import processes
from tests.acceptance.ledger import Watcher, Writer, at_work, balance, create_metrics
from tests.acceptance.processes import Command
from tests.backends import COMBINATIONS
from tests.conftest import do_without, require
from tests.faults.system import processing_goes_on
from tests.hosts.network import Forwarder
from tests.servers import reserve_port

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator

    from tests.acceptance.processes import Installation
    from tests.servers import CephServer

#: Before each piece of a question or an answer is passed on, and each change of files.
DELAY_S = 0.01
#: Until so much has been asked that the delays matter.
FELT_S = 60.0
OPTIONS: backends.Options = {
    "api": {"processes": 1},
    "metricd": {"workers": 2, "compaction_fan_in": 3, "max_points_per_round": 2000},
}


class Slow:
    """What makes the servers of a combination slow.

    Args:
        fixture: gives the value of a fixture by name, as ``request.getfixturevalue`` does.
    """

    def __init__(self, fixture: Callable[[str], Any], stack: contextlib.ExitStack) -> None:
        self._fixture = fixture
        self._stack = stack
        self._seen: dict[str, Any] = {}
        self._forwarders: list[Forwarder] = []
        self._ceph: CephServer | None = None

    def server(self, name: str) -> Any:
        """Give the server of a fixture, as it is reached by who shall wait for it."""
        if name not in self._seen:
            server = self._fixture(name)
            if name == "ceph_server":
                # Clients learn addresses from the cluster itself, and so pass by forwarders.
                self._ceph = server
                self._seen[name] = server
            else:
                self._seen[name] = self._between(server, "s3_url" if "rados" in name else "url")
        return self._seen[name]

    def _between(self, server: Any, address: str) -> Any:
        """A copy of a server whose addresses are those of a forwarder."""
        port = getattr(server, address).rpartition(":")[2].partition("/")[0]
        listen = reserve_port()
        forwarder = Forwarder("127.0.0.1", int(port), listen=listen)
        self._stack.callback(forwarder.close)
        self._forwarders.append(forwarder)
        reached = copy.copy(server)
        reached.port = listen
        for name, value in vars(server).items():
            if isinstance(value, str) and "://" in value:
                setattr(reached, name, value.replace(f":{port}", f":{listen}"))
        return reached

    @contextlib.contextmanager
    def lasting(self) -> Iterator[None]:
        """Delay everything for the length of the block, which ends once all have felt it."""
        self._delay(DELAY_S)
        try:
            yield
            end = time.monotonic() + FELT_S
            while not all(forwarder.delayed > 100 for forwarder in self._forwarders):
                assert time.monotonic() < end, "hardly anything is asked of one of the servers"
                time.sleep(0.1)
        finally:
            self._delay(0.0)

    def _delay(self, seconds: float) -> None:
        for forwarder in self._forwarders:
            forwarder.delay_s = seconds
        if self._ceph is not None:
            delay_in_ceph(self._ceph, seconds)


def delay_in_ceph(server: CephServer, seconds: float) -> None:
    """Let the OSD wait before it looks at a message."""
    option = "osd_debug_inject_dispatch_delay"
    for name, value in ((f"{option}_duration", seconds), (f"{option}_probability", bool(seconds))):
        server.administrate("config", "set", "osd", name, str(float(value)))
        while float(server.administrate("tell", "osd.0", "config", "get", name)[name]) != value:
            time.sleep(0.05)


class OnSlowDisk(Command):
    """A command that waits before each change of files gets to the disk.

    A second program looks after it for that; signals and the process table are not affected.
    """

    CALLS = "fsync,fdatasync,rename,unlink"

    @property
    def trace(self) -> pathlib.Path:
        """Where the calls that were delayed are listed."""
        return self._installation.directory / f"{self.name}.trace"

    def command(self) -> list[str]:
        """Return the command line."""
        delay = f"inject={self.CALLS}:delay_enter={DELAY_S * 1e6:.0f}"
        strace = ["strace", "-D", "-f", "-qq", "--seccomp-bpf", "-e", f"trace={self.CALLS}"]
        return [*strace, "-o", str(self.trace), "-e", delay, *super().command()]


def commands(combination: str, site: Installation) -> tuple[Command, Command]:
    """The API and metricd."""
    if "file" not in combination:
        return site.api(), site.metricd()
    require(servers.programs("strace"), ("strace",))
    return OnSlowDisk(site, processes.API), OnSlowDisk(site, processes.METRICD)


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_slow_servers_delay_and_lose_nothing(
    combination: str, request: pytest.FixtureRequest
) -> None:
    if names := processes.missing():
        do_without(f"not installed: {', '.join(names)} (pip install -e .)")
    with contextlib.ExitStack() as stack:
        slow = Slow(request.getfixturevalue, stack)
        options = stack.enter_context(backends.of_its_own(combination, slow.server))
        site = stack.enter_context(processes.installation({**options, **OPTIONS}))
        client = stack.enter_context(contextlib.closing(site.client()))
        api, metricd = commands(combination, site)
        metricd.start()
        api.start_until_served()
        metrics = create_metrics(client)
        writers = [Writer(site.client(), own, number) for number, own in enumerate(metrics)]
        watcher = Watcher(site.client(), [m for own in metrics for m in own], 0)
        with at_work([*writers, watcher]):
            processing_goes_on(client, metricd)
            with slow.lasting():
                for _ in range(3):
                    processing_goes_on(client, metricd)
        found = balance(client, metricd, writers)
        for command in (api, metricd):
            if isinstance(command, OnSlowDisk):
                assert command.trace.read_text().count("(DELAYED)") > 100
    print(f"{combination}: {found}; {watcher.reads} reads")  # noqa: T201
    assert not [failure for writer in writers for failure in writer.failures]
    assert found.stored == found.acknowledged > 100
