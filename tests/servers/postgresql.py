"""PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING

from tests.servers.base import Restartable, Sandbox, programs, reserve_port, sandbox
from tests.servers.redis import make_certificates

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

POSTGRESQL = ("initdb", "postgres", "pg_isready")


def postgresql_programs() -> dict[str, str]:
    """Find PostgreSQL's programs, which Debian keeps out of the path."""
    return programs(*POSTGRESQL, places=("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"))


@contextlib.contextmanager
def postgresql(
    *,
    durable: bool = False,
    tls: bool = False,
    parent: pathlib.Path | None = None,
    log_parent: pathlib.Path | None = None,
) -> Iterator[Restartable]:
    """Run PostgreSQL; without ``durable`` it never waits for the disk.

    Args:
        parent: where to make its directory.
        log_parent: where to make one for its write-ahead log alone, in files of 1 MiB.
        tls: who comes over TCP has to use TLS and a password; the authority of the certificate is
            ``certificates/ca.crt`` in the directory of the server.
    """
    found = postgresql_programs()
    with sandbox("postgresql", "postgres", parent) as box:
        data, port = box.directory / "data", reserve_port()
        box.run(
            found["initdb"], "--pgdata", data, "--username", "gnocchi", "--auth", "trust",
            "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync",
            *(_password(box) if tls else ()),
            *(_log(box, log_parent) if log_parent is not None else ()),
        )  # fmt: skip
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(box.directory),
            "max_connections": "200",
        }
        if not durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        if tls:
            settings |= _with_tls(box, data)
        probe = [found["pg_isready"], "-q", "-h", "127.0.0.1", "-p", str(port)]
        command: list[str | os.PathLike[str]] = [
            found["postgres"], "-D", data, *(f"--{key}={value}" for key, value in settings.items()),
        ]  # fmt: skip
        server = Restartable(
            port,
            f"postgresql+psycopg2://gnocchi{':secret' if tls else ''}@127.0.0.1:{port}/postgres",
            box.directory,
            box,
            command,
            ready=lambda: subprocess.run(probe, check=False).returncode == 0,
            ending=signal.SIGINT,  # SIGTERM would wait for clients that are still connected
        )
        server.start()
        yield server


def _log(box: Sandbox, parent: pathlib.Path) -> list[str]:
    """Arguments of initdb that put the write-ahead log there."""
    place = parent / "log"
    place.mkdir()
    if box.owner is not None:
        os.chown(place, box.owner.pw_uid, box.owner.pw_gid)
    return ["--waldir", str(place), "--wal-segsize", "1"]


def _password(box: Sandbox) -> list[str]:
    """Arguments of initdb, so that clients from the network need a password."""
    file = box.directory / "password"
    file.write_text("secret\n")
    file.chmod(0o644)
    return ["--auth-host", "scram-sha-256", "--pwfile", str(file)]


def _with_tls(box: Sandbox, data: pathlib.Path) -> dict[str, str]:
    """Settings that turn TLS on; without it, the network is refused from now on."""
    place = box.directory / "certificates"
    place.mkdir()
    make_certificates(place)
    # It insists that nobody else can read its key.
    key = place / "server.key"
    key.chmod(0o600)
    if box.owner is not None:
        os.chown(key, box.owner.pw_uid, box.owner.pw_gid)
    rules = data / "pg_hba.conf"
    rules.write_text(re.sub(r"^host\b", "hostssl", rules.read_text(), flags=re.MULTILINE))
    return {
        "ssl": "on",
        "ssl_cert_file": str(place / "server.crt"),
        "ssl_key_file": str(key),
    }
