"""Servers that only coordinate: memcached, etcd, ZooKeeper."""

from __future__ import annotations

import contextlib
import http.client
import pathlib
import socket
from typing import TYPE_CHECKING

from tests.servers.base import Server, programs, reserve_port, sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMCACHED = ("memcached",)
ETCD = ("etcd",)
ZOOKEEPER = ("java", "zookeeper.jar")

ZOOKEEPER_JAR = pathlib.Path("/usr/share/java/zookeeper.jar")


def memcached_programs() -> dict[str, str]:
    """Find memcached."""
    return programs(*MEMCACHED)


def etcd_programs() -> dict[str, str]:
    """Find etcd."""
    return programs(*ETCD)


def zookeeper_programs() -> dict[str, str]:
    """Find Java, and ZooKeeper where Debian keeps it."""
    found = programs("java")
    return found | {"zookeeper.jar": str(ZOOKEEPER_JAR)} if ZOOKEEPER_JAR.exists() else found


def _says(port: int, question: bytes, answer: bytes) -> bool:
    with socket.create_connection(("127.0.0.1", port), 1) as connection:
        connection.sendall(question)
        return connection.recv(len(answer)) == answer


@contextlib.contextmanager
def memcached() -> Iterator[Server]:
    """Run memcached."""
    found = memcached_programs()
    with sandbox("memcached", "memcache") as box:
        port = reserve_port()
        process = box.start(
            found["memcached"], "-l", "127.0.0.1", "-p", str(port),
            ready=lambda: _says(port, b"version\r\n", b"VERSION"),
        )  # fmt: skip
        yield Server(port, f"memcached://127.0.0.1:{port}", box.directory, process)


@contextlib.contextmanager
def etcd() -> Iterator[Server]:
    """Run a cluster of one etcd that never waits for the disk."""
    found = etcd_programs()
    with sandbox("etcd", None) as box:
        port = reserve_port()
        client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{reserve_port()}"
        process = box.start(
            found["etcd"], "--name", "test", "--data-dir", box.directory / "data",
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"test={peer}", "--unsafe-no-fsync",
            ready=lambda: _healthy(port),
        )  # fmt: skip
        yield Server(port, f"etcd3+{client}", box.directory, process)


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return b'"true"' in connection.getresponse().read()
    except http.client.HTTPException:
        return False
    finally:
        connection.close()


ZOOKEEPER_CONFIGURATION = """\
tickTime=500
dataDir={directory}/data
clientPort={port}
clientPortAddress=127.0.0.1
admin.enableServer=false
4lw.commands.whitelist=ruok
maxClientCnxns=0
"""


@contextlib.contextmanager
def zookeeper() -> Iterator[Server]:
    """Run one ZooKeeper, without the script of its package."""
    found = zookeeper_programs()
    with sandbox("zookeeper", None) as box:
        port = reserve_port()
        file = box.directory / "zoo.cfg"
        file.write_text(ZOOKEEPER_CONFIGURATION.format(directory=box.directory, port=port))
        process = box.start(
            found["java"], "-Xmx128m", "-Dzookeeper.forceSync=no", "-cp", found["zookeeper.jar"],
            "org.apache.zookeeper.server.ZooKeeperServerMain", file,
            ready=lambda: _says(port, b"ruok", b"imok"),
        )  # fmt: skip
        yield Server(port, f"zookeeper://127.0.0.1:{port}?timeout=10", box.directory, process)
