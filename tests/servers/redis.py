"""Redis: one server, by TLS, behind a sentinel, or as a cluster."""

from __future__ import annotations

import contextlib
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.servers.base import Sandbox, Server, programs, reserve_port, sandbox

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

REDIS = ("redis-server", "redis-sentinel", "redis-cli")
REDIS_PASSWORD = "a pass/word"
MASTER = "gnocchi"
CLUSTER_PORTS = 10_000  # a node's port among nodes is this much higher than that of clients


def redis_programs() -> dict[str, str]:
    """Find the programs of Redis, and the one that makes certificates."""
    return programs(*REDIS, "openssl")


@dataclass
class RedisServer(Server):
    """A Redis that can be started again, with what it kept.

    Attributes:
        password: of the user ``default``; none is needed without.
        certificates: directory with ``ca.crt``, ``server.crt`` and ``server.key``, with TLS.
        sentinel_port: where a sentinel listens, if there is one.
        sentinel_certificates: those of the sentinel, if it serves TLS.
        replicas: the servers that follow this one.
    """

    box: Sandbox
    command: list[str]
    password: str | None = None
    certificates: pathlib.Path | None = None
    sentinel_port: int = 0
    sentinel_certificates: pathlib.Path | None = None
    replicas: list[RedisServer] = field(default_factory=list)

    def cli(self, *command: str) -> str:
        """Run a command by redis-cli and return what it printed."""
        return _cli(self.port, self.password, self.certificates, *command)

    def start(self) -> None:
        """Start it again."""
        self.process = self.box.start(
            *self.command, ready=lambda: self.cli("ping").strip() == "PONG"
        )

    def kill(self) -> None:
        """End it as a failure of power would."""
        self.process.kill()
        self.process.wait()


def _cli(port: int, password: str | None, certificates: pathlib.Path | None, *command: str) -> str:
    arguments = [programs("redis-cli")["redis-cli"], "-p", str(port)]
    if password is not None:
        arguments += ["--no-auth-warning", "-a", password]
    if certificates is not None:
        arguments += ["--tls", "--cacert", str(certificates / "ca.crt")]
    done = subprocess.run(
        [*arguments, *command], capture_output=True, text=True, check=False, timeout=20
    )
    return done.stdout


def make_certificates(directory: pathlib.Path) -> pathlib.Path:
    """Make an authority, and a certificate of 127.0.0.1 signed by it."""
    openssl = programs("openssl")["openssl"]

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "rsa:2048", "-nodes", "-keyout")
    run("req", "-x509", *key, "ca.key", "-out", "ca.crt", "-subj", "/CN=tests", "-days", "2")
    run("req", *key, "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1")
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    run(
        "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
        "-CAcreateserial", "-out", "server.crt", "-days", "2", "-extfile", "names",
    )  # fmt: skip
    for path in directory.iterdir():
        path.chmod(0o644)
    directory.chmod(0o755)
    return directory


@contextlib.contextmanager
def redis(
    *settings: str,
    password: str | None = None,
    tls: bool = False,
    durable: bool = False,
    port: int | None = None,
    parent: pathlib.Path | None = None,
) -> Iterator[RedisServer]:
    """Run a Redis.

    Args:
        settings: further arguments, such as ``--maxmemory 10mb``.
        password: clients have to know it.
        tls: nothing but TLS is served.
        durable: keep everything in a file, as a deployment would; without, nothing is kept.
        port: to use.
        parent: where to make its directory.
    """
    found = redis_programs()
    with sandbox("redis", None, parent) as box:
        port = port or reserve_port()
        certificates = None
        command = [
            found["redis-server"], "--bind", "127.0.0.1", "--dir", str(box.directory),
            "--save", "", "--appendonly", "yes" if durable else "no", "--appendfsync", "always",
            "--unixsocket", str(box.directory / "socket"), *settings,
        ]  # fmt: skip
        if password is not None:
            command += ["--requirepass", password, "--masterauth", password]
        url = f"redis://127.0.0.1:{port}"
        if tls:
            place = box.directory / "certificates"
            place.mkdir()
            certificates = make_certificates(place)
            command += [
                "--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no",
                "--tls-ca-cert-file", str(place / "ca.crt"),
                "--tls-cert-file", str(place / "server.crt"),
                "--tls-key-file", str(place / "server.key"),
            ]  # fmt: skip
        else:
            command += ["--port", str(port)]
        process = box.start(
            *command,
            ready=lambda: _cli(port, password, certificates, "ping").strip() == "PONG",
        )
        yield RedisServer(port, url, box.directory, process, box, command, password, certificates)


@contextlib.contextmanager
def redis_sentinel(*, tls: bool = False) -> Iterator[RedisServer]:
    """Run a Redis with a replica, and a sentinel that puts one in the place of the other.

    Args:
        tls: the sentinel serves nothing but TLS; the servers themselves do not.
    """
    found = redis_programs()
    with (
        redis(password=REDIS_PASSWORD) as master,
        redis("--replicaof", "127.0.0.1", str(master.port), password=REDIS_PASSWORD) as replica,
        sandbox("sentinel", None) as box,
    ):
        master.replicas.append(replica)
        port = reserve_port()
        lines = [
            "bind 127.0.0.1",
            f"dir {box.directory}",
            f"sentinel monitor {MASTER} 127.0.0.1 {master.port} 1",
            f'sentinel auth-pass {MASTER} "{REDIS_PASSWORD}"',
            f"sentinel down-after-milliseconds {MASTER} 500",
            f"sentinel failover-timeout {MASTER} 3000",
        ]
        place = make_certificates(box.directory) if tls else None
        if place is None:
            lines += [f"port {port}"]
        else:
            lines += [
                "port 0",
                f"tls-port {port}",
                "tls-auth-clients no",
                f"tls-ca-cert-file {place}/ca.crt",
                f"tls-cert-file {place}/server.crt",
                f"tls-key-file {place}/server.key",
            ]
        file = box.directory / "sentinel.conf"  # it writes there what it learns
        file.write_text("\n".join([*lines, ""]))

        def knows_both() -> bool:
            online = "state=online" in master.cli("info", "replication")
            known = _cli(port, None, place, "sentinel", "replicas", MASTER)
            return online and str(replica.port) in known

        box.start(found["redis-sentinel"], file, ready=knows_both)
        master.sentinel_port = port
        master.sentinel_certificates = place
        yield master


@contextlib.contextmanager
def redis_cluster(nodes: int = 3) -> Iterator[list[RedisServer]]:
    """Run a cluster of nodes without replicas."""
    found = redis_programs()
    with contextlib.ExitStack() as stack:
        running = []
        for _ in range(nodes):
            bus = reserve_port()
            running.append(
                stack.enter_context(redis("--cluster-enabled", "yes", "--cluster-port", str(bus)))
            )
        addresses = [f"127.0.0.1:{node.port}" for node in running]
        running[0].box.run(found["redis-cli"], "--cluster", "create", *addresses, "--cluster-yes")
        while not all(_whole(node, nodes) for node in running):
            time.sleep(0.05)
        yield running


def _whole(node: RedisServer, nodes: int) -> bool:
    """Whether a node knows all others and that every slot is served."""
    said = node.cli("cluster", "info")
    return "cluster_state:ok" in said and f"cluster_known_nodes:{nodes}" in said
