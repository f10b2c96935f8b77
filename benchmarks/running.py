"""An installation with both commands running, and what cases do with it again and again."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import time
import uuid
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks import usage
from gnocchi import config, model, service
from gnocchi.engine import push
from gnocchi.indexer import metrics, policies
from tests.acceptance.processes import Installation, installation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gnocchi.service import Services

NS = 10**9
LOOK_S = 0.05
DRAIN_S = 900.0
#: Nothing is due for compaction when the catalog stood still for so long.
STILL_S = 7.0


class Stored(NamedTuple):
    """What is stored: live segments with their rows and bytes, and all files with theirs."""

    segments: int
    rows: int
    bytes: int
    files: int
    file_bytes: int


class Site:
    """Both commands of one installation.

    ``ids`` everywhere below are ``(m,)`` V16 arrays of raw UUIDs.
    """

    def __init__(self, made: Installation) -> None:
        self.installation = made
        self.api = made.api()
        self.metricd = made.metricd()
        self.client = made.client(timeout_s=120.0)
        self._services: Services | None = None

    # ---------------------------------------------------------------- without HTTP

    @property
    def services(self) -> Services:
        """The stores, opened in this process: for what is prepared and not measured."""
        if self._services is None:
            files = [str(self.installation.configuration)]
            conf = config.prepare([], "benchmarks", files=files)
            self._services = service.connect(conf)
        return self._services

    def create(self, number: int, policy: str) -> np.ndarray:
        """Make metrics and return their ids, ascending."""
        found = policies.get(self.services.db, policy)
        made = [
            model.Metric(
                id=uuid.uuid4(),
                archive_policy=found,
                creator="admin",
                name=None,
                unit=None,
                resource_id=None,
            )
            for _ in range(number)
        ]
        metrics.create_many(self.services.db, made)
        return np.frombuffer(b"".join(sorted(metric.id.bytes for metric in made)), "V16")

    def feed(self, ids: np.ndarray, timestamps: np.ndarray, values: np.ndarray) -> None:
        """Accept points, as a request would.

        Args:
            timestamps: ``(p,)`` ns, the same for every metric. values: ``(m, p)``.
        """
        counts = np.full(len(ids), len(timestamps))
        push.add(self.services, ids, counts, np.tile(timestamps, len(ids)), values.ravel())

    # ---------------------------------------------------------------- waiting

    def drain(self, timeout_s: float = DRAIN_S) -> None:
        """Wait until nothing waits to be processed."""
        end = time.monotonic() + timeout_s
        while self.client.summary()["points"]:
            if time.monotonic() > end or not self.metricd.running:
                raise TimeoutError(f"The backlog does not end:\n{self.metricd.said()}")
            time.sleep(LOOK_S)

    def settle(self, still_s: float = STILL_S) -> None:
        """Wait until all that is due has been processed and merged."""
        self.drain()
        before, since = self.stored(), time.monotonic()
        while time.monotonic() - since < still_s:
            time.sleep(0.5)
            now = self.stored()
            if now[:3] != before[:3]:
                before, since = now, time.monotonic()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Hold metricd, so that a backlog gathers."""
        self.metricd.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.metricd.signal(signal.SIGCONT)

    def quiet(self) -> None:
        """Wait until metricd has nothing to do: no start, no merge, no measures."""
        before = usage.cpu_s(self.metricd)
        while True:
            time.sleep(1.0)
            now = usage.cpu_s(self.metricd)
            if now - before <= 0.05:
                return
            before = now

    # ---------------------------------------------------------------- looking

    def stored(self) -> Stored:
        """Count what is stored."""
        data = self.installation.data
        uri = f"file:{data / 'indexer.sqlite'}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=30)) as connection:
            query = "SELECT count(*), coalesce(sum(rows_), 0), coalesce(sum(size), 0) FROM segment"
            segments, rows, size = connection.execute(query).fetchone()
        sizes = []
        for path in data.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    sizes.append(path.stat().st_size)
        return Stored(segments, rows, size, len(sizes), sum(sizes))

    def close(self) -> None:
        """Disconnect; the installation stops the commands."""
        self.metricd.signal(signal.SIGCONT)
        self.client.close()
        if self._services is not None:
            self._services.db.close()


@contextlib.contextmanager
def running(
    options: Mapping[str, Mapping[str, object]] | None = None, *, metricd: bool = True
) -> Iterator[Site]:
    """Start an empty installation."""
    with installation(options) as made:
        site = Site(made)
        try:
            site.api.start_until_served()
            if metricd:
                site.metricd.start_until_working(1)
                site.quiet()
            yield site
        finally:
            site.close()


def text_ids(ids: np.ndarray) -> list[str]:
    """Return ids as the API writes them."""
    return [str(uuid.UUID(bytes=raw)) for raw in ids.tolist()]
