"""MariaDB."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

from tests.servers.base import Restartable, programs, reserve_port, sandbox
from tests.servers.redis import make_certificates

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

MARIADB = ("mariadbd", "mariadb-install-db", "mariadb")


def mariadb_programs() -> dict[str, str]:
    """Find MariaDB's programs."""
    return programs(*MARIADB)


@contextlib.contextmanager
def mariadb(
    *, durable: bool = False, tls: bool = False, parent: pathlib.Path | None = None
) -> Iterator[Restartable]:
    """Run MariaDB; without ``durable`` it never waits for the disk.

    Args:
        parent: where to make its directory.
        tls: who comes over TCP has to use TLS; the authority of the certificate is
            ``certificates/ca.crt`` in the directory of the server.
    """
    found = mariadb_programs()
    with sandbox("mariadb", "mysql", parent) as box:
        data, port, unix_socket = box.directory / "data", reserve_port(), box.directory / "socket"
        # First of all, or the configuration of the machine is mixed in.
        # A server removes what it takes for its own temporary tables when it starts; in a shared
        # directory those of others would go as well.
        own = ["--no-defaults", f"--datadir={data}", f"--tmpdir={box.directory}"]
        box.run(
            found["mariadb-install-db"], *own, "--skip-test-db",
            "--auth-root-authentication-method=normal",
        )  # fmt: skip
        settings = [
            f"--socket={unix_socket}",
            f"--port={port}",
            "--bind-address=127.0.0.1",
            f"--pid-file={box.directory / 'pid'}",
            "--skip-name-resolve",
            "--performance-schema=OFF",
            "--innodb-buffer-pool-size=64M",
            "--innodb-log-file-size=32M",
        ]
        if not durable:
            settings += ["--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync"]
        if tls:
            place = box.directory / "certificates"
            place.mkdir()
            make_certificates(place)
            settings += [
                f"--ssl-ca={place}/ca.crt", f"--ssl-cert={place}/server.crt",
                f"--ssl-key={place}/server.key", "--require-secure-transport=ON",
            ]  # fmt: skip
        client = [found["mariadb"], "--no-defaults", f"--socket={unix_socket}", "--user=root"]
        ask = [*client, "--execute=SELECT 1"]
        server = Restartable(
            port,
            f"mysql+pymysql://gnocchi:secret@127.0.0.1:{port}/mysql",
            box.directory,
            box,
            [found["mariadbd"], *own, *settings],
            ready=lambda: subprocess.run(ask, capture_output=True, check=False).returncode == 0,
        )
        server.start()
        # Not root: an account with a password and over TCP, as in production.
        box.run(
            *client,
            "--execute=CREATE USER gnocchi@'127.0.0.1' IDENTIFIED BY 'secret';"
            "GRANT ALL ON *.* TO gnocchi@'127.0.0.1'",
        )
        yield server
