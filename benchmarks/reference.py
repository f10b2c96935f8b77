"""References: what the same work costs without this program around it.

`served` runs a bare Pecan application under the same server with the same settings; the functions
below it do parts of the work in this process.
"""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pecan

from gnocchi import api_server, cli, startup
from tests.acceptance.client import Client, Lost
from tests.acceptance.processes import Command
from tests.servers import reserve_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.processes import Installation

PROGRAM = "benchmarks-reference"
ROOT = pathlib.Path(__file__).parent.parent
#: It runs in another directory, from where this package is not found.
START = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from benchmarks import reference
sys.exit(reference.main())
"""


class Root:
    """Handlers that do nothing of their own."""

    @pecan.expose(content_type="application/json")  # type: ignore[untyped-decorator]
    def empty(self) -> bytes:
        """Answer without looking at the request."""
        return self._accepted()

    @pecan.expose(content_type="application/json")  # type: ignore[untyped-decorator]
    def parse(self) -> bytes:
        """Decode the body and forget it."""
        orjson.loads(pecan.request.body)
        return self._accepted()

    @pecan.expose(content_type="application/json")  # type: ignore[untyped-decorator]
    def rows(self, number: str) -> bytes:
        """Answer with so many rows, made anew each time."""
        return document(int(number))

    @staticmethod
    def _accepted() -> bytes:
        pecan.response.status = 202
        return b""


class Server(api_server.Server):
    """The server of the API with another application."""

    def load(self) -> Any:
        """Put the application together."""
        return pecan.make_app(Root())


def main() -> int:
    """Serve."""
    conf = startup.configure(PROGRAM, None, options=cli.API_OPTIONS)
    Server(conf, api_server.address(conf)).run()
    return 0


class Reference(Command):
    """The reference application as a command."""

    def __init__(self, installation: Installation) -> None:
        super().__init__(installation, PROGRAM)
        self.port = reserve_port()

    def command(self) -> list[str]:
        """Return the command line."""
        settings = self._installation.directory / "reference.conf"
        settings.write_text(f"[api]\nhost = 127.0.0.1\nport = {self.port}\n", encoding="utf-8")
        return [sys.executable, "-c", START, "--config-file", str(settings)]


@contextlib.contextmanager
def served(installation: Installation) -> Iterator[tuple[Reference, Client]]:
    """Serve the reference application beside an installation."""
    command = Reference(installation)
    client = Client(command.port)
    command.start()
    try:
        while not _answers(client):
            if not command.running:
                raise subprocess.SubprocessError(command.said())
            time.sleep(0.05)
        yield command, client
    finally:
        client.close()
        command.stop()


def _answers(client: Client) -> bool:
    try:
        return client.get("/empty").status == 202
    except Lost:
        return False


# ------------------------------------------------------------------ in this process


def document(rows: int) -> bytes:
    """Write so many rows as the API does, from arrays."""
    stamps = np.arange(rows) + np.datetime64("2026-01-01T00:00:00", "s")
    texts = np.datetime_as_string(stamps, unit="s").tolist()
    values = np.linspace(0, 1, rows).tolist()
    return orjson.dumps(
        [[text + "+00:00", 1.0, value] for text, value in zip(texts, values, strict=True)]
    )


def reduce(metrics: int, window: int) -> dict[str, np.ndarray]:
    """Reduce a window of points of each metric with the default methods, as numpy can.

    A merge of one new point into each window, then one bucket a metric: what a round has to do
    at the least for one granularity.
    """
    index = np.repeat(np.arange(metrics), window)
    stamps = np.tile(np.arange(window), metrics)
    values = np.random.default_rng(1).random(metrics * window)
    order = np.lexsort((stamps, index))
    index, values = index[order], values[order]
    starts = np.flatnonzero(np.diff(index, prepend=-1))
    count = np.diff(starts, append=len(index)).astype(float)
    total = np.add.reduceat(values, starts)
    squares = (values - np.repeat(total / count, count.astype(int))) ** 2
    return {
        "mean": total / count,
        "min": np.minimum.reduceat(values, starts),
        "max": np.maximum.reduceat(values, starts),
        "sum": total,
        "std": np.sqrt(np.add.reduceat(squares, starts) / np.maximum(count - 1, 1)),
        "count": count,
    }
