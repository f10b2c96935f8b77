"""The installed commands, many in a short time: forked from a process that has loaded everything.

They do what the scripts do, but for two things: pauses between attempts are short, and a daemon
that waits for a server is stopped once it has said so twice.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import multiprocessing
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from gnocchi import cli, startup
from gnocchi.drivers import s3_connection

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Sequence
    from multiprocessing.context import ForkServerContext

FUNCTIONS = {
    "gnocchi-api": cli.api,
    "gnocchi-change-sack-size": cli.change_sack_size,
    "gnocchi-metricd": cli.metricd,
    "gnocchi-upgrade": cli.upgrade,
}
DAEMONS = ("gnocchi-api", "gnocchi-metricd")
LONGEST_S = 30.0
WAITS = b"Next attempt in"


@functools.cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            __name__, "gnocchi.api_server", "gnocchi.metricd", "gnocchi.upgrade",
            "gnocchi.drivers.redis", "gnocchi.drivers.s3", "gnocchi.drivers.swift",
            "boto3.session", "botocore.config", "swiftclient.client", "keystoneauth1.session",
            "keystoneauth1.identity", "keystonemiddleware.auth_token", "psycopg2", "pymysql",
            "tooz.drivers.redis",
        ]
    )  # fmt: skip
    return context


def _run(command: str, arguments: Sequence[str], output: str) -> None:
    os.setsid()
    with open(output, "wb", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    startup.FIRST_PAUSE_S = 0.05
    s3_connection.PATIENCE = s3_connection.Patience(pause_s=0.01)
    vars(importlib.import_module("redis.retry"))["sleep"] = no_pause
    sys.argv = [command, *arguments]
    status = FUNCTIONS[command]()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def no_pause(_seconds: float) -> None:
    """Stand for ``sleep`` in ``redis.retry``: tooz lets redis-py try for a minute."""


class Command:
    """A command that runs; stopped at the end of the block, with all its processes."""

    def __init__(self, name: str, arguments: Sequence[str], directory: pathlib.Path) -> None:
        self.name = name
        self.file = directory / f"{name}.output"
        self.log = directory / f"{name}.log"
        if name in DAEMONS:
            arguments = ["--log-file", str(self.log), *arguments]
        self._process: Any = _context().Process(target=_run, args=(name, arguments, str(self.file)))

    def __enter__(self) -> Command:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.join()
        self._process.close()

    def said(self) -> bytes:
        """Everything it has written so far: standard output and error, and the log file."""
        return b"".join(file.read_bytes() for file in (self.file, self.log) if file.exists())

    def wait(self) -> int | None:
        """Wait until it ends; a daemon, until it has said twice that it waits for a server.

        Returns:
            Its exit status; None of one that still runs.
        """
        end = time.monotonic() + LONGEST_S
        while self._process.is_alive():
            if self.name in DAEMONS and self.said().count(WAITS) >= 2:
                return None
            if time.monotonic() > end:
                raise AssertionError(f"{self.name} neither ends nor waits: {self.said()!r}")
            time.sleep(0.03)
        status: int | None = self._process.exitcode
        return status
