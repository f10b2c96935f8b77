"""PostgreSQL."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from typing import TYPE_CHECKING

from tests.servers.base import Restartable, programs, reserve_port, sandbox

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

POSTGRESQL = ("initdb", "postgres", "pg_isready")


def postgresql_programs() -> dict[str, str]:
    """Find PostgreSQL's programs, which Debian keeps out of the path."""
    return programs(*POSTGRESQL, places=("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"))


@contextlib.contextmanager
def postgresql(*, durable: bool = False) -> Iterator[Restartable]:
    """Run PostgreSQL; without ``durable`` it never waits for the disk."""
    found = postgresql_programs()
    with sandbox("postgresql", "postgres") as box:
        data, port = box.directory / "data", reserve_port()
        box.run(
            found["initdb"], "--pgdata", data, "--username", "gnocchi", "--auth", "trust",
            "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync",
        )  # fmt: skip
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(box.directory),
            "max_connections": "200",
        }
        if not durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        probe = [found["pg_isready"], "-q", "-h", "127.0.0.1", "-p", str(port)]
        command: list[str | os.PathLike[str]] = [
            found["postgres"], "-D", data, *(f"--{key}={value}" for key, value in settings.items()),
        ]  # fmt: skip
        server = Restartable(
            port,
            f"postgresql+psycopg2://gnocchi@127.0.0.1:{port}/postgres",
            box.directory,
            box,
            command,
            ready=lambda: subprocess.run(probe, check=False).returncode == 0,
            ending=signal.SIGINT,  # SIGTERM would wait for clients that are still connected
        )
        server.start()
        yield server
