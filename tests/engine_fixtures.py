"""The engine in this process over SQLite and a driver: no server, no configuration file."""

from __future__ import annotations

import functools
import pathlib
import tempfile
import uuid
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from gnocchi import archive_policy, model
from gnocchi.drivers.file import FileIncoming, FileStorage
from gnocchi.drivers.memory import MemoryIncoming, MemoryStorage
from gnocchi.engine import process, push, read
from gnocchi.indexer import catalog, metrics, policies
from gnocchi.indexer.database import Database
from gnocchi.service import Services

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gnocchi.incoming import Incoming
    from gnocchi.storage import Storage

S = 1_000_000_000
T0 = 1_700_000_400 * S  # a whole number of hours and minutes is easy to count from
POLICY = "tested"
METHODS = ("mean", "sum", "count", "max")


@functools.cache
def _database(sacks: int) -> bytes:
    """An upgraded database with that many sacks, made once a session."""
    with tempfile.TemporaryDirectory() as directory:
        db = Database(f"sqlite:///{directory}/index.db", sync=False)
        db.upgrade()
        catalog.create_sacks(db, sacks)
        db.close()
        return pathlib.Path(directory, "index.db").read_bytes()


def drivers(
    directory: pathlib.Path, sacks: int, *, sync: bool = False, memory: bool = False
) -> tuple[Storage, Incoming]:
    """Upgraded drivers: files below the directory, or memory."""
    conf = SimpleNamespace(file_basepath=str(directory), file_sync=sync)
    storage: Storage = MemoryStorage() if memory else FileStorage(conf)
    incoming: Incoming = MemoryIncoming(None, sacks) if memory else FileIncoming(conf, sacks)
    storage.upgrade()
    incoming.upgrade()
    return storage, incoming


def services(
    directory: pathlib.Path,
    *,
    sacks: int = 4,
    sync: bool = False,
    memory: bool = False,
    **options: Any,
) -> Services:
    """Services over what is in the directory, which is filled when it is new."""
    file = directory / "index.db"
    if not file.exists():
        file.write_bytes(_database(sacks))
    db = Database(f"sqlite:///{file}", sync=False)
    storage, incoming = drivers(directory, sacks, sync=sync, memory=memory)
    if not memory:
        conf = SimpleNamespace(file_basepath=str(directory), file_sync=sync)
        options.setdefault("divided", lambda number: FileIncoming(conf, number))
    return Services(None, db, storage, incoming, **options)  # type: ignore[arg-type]


def policy(
    services_: Services,
    name: str = POLICY,
    granularities: Sequence[tuple[int, int | None]] = ((60, None),),
    methods: Iterable[str] = METHODS,
    back_window: int = 0,
) -> archive_policy.ArchivePolicy:
    """Create an archive policy; granularities and timespans in seconds."""
    created = archive_policy.ArchivePolicy.create(
        name,
        back_window,
        [
            archive_policy.Definition.complete(
                granularity=granularity * S, timespan=None if timespan is None else timespan * S
            )
            for granularity, timespan in granularities
        ],
        frozenset(methods),
    )
    policies.create(services_.db, created)
    return created


def metric(
    services_: Services, number: int, policy_: archive_policy.ArchivePolicy, high: int | None = None
) -> model.Metric:
    """Create a metric; the top 32 bits of its id are ``high``, else spread by ``number``."""
    top = (number * 0x9E3779B1) % 2**32 if high is None else high
    identity = uuid.UUID(int=top << 96 | number)
    created = model.Metric(identity, policy_, "me", None, None, None)
    metrics.create(services_.db, created)
    return created


def send(services_: Services, measures: Mapping[model.Metric, Sequence[tuple[int, float]]]) -> None:
    """Push measures as one request: (seconds after `T0`, value) by metric."""
    push.add(
        services_,
        np.frombuffer(b"".join(m.id.bytes for m in measures), "V16"),
        np.array([len(points) for points in measures.values()]),
        np.array([T0 + at * S for points in measures.values() for at, _ in points], np.int64),
        np.array([value for points in measures.values() for _, value in points], np.float64),
    )


def work(services_: Services) -> int:
    """Process everything that waits, as a worker that has just been started."""
    return process.Worker(services_).work(range(services_.sacks))


def answer(
    services_: Services, metric_: model.Metric, method: str = "sum", granularity: int = 60
) -> dict[int, float]:
    """The aggregates of a metric by seconds after `T0`."""
    (series,) = read.measures(services_, metric_, method, [granularity * S])
    return {
        (at - T0) // S: value
        for at, value in zip(series.timestamps.tolist(), series.values.tolist(), strict=True)
    }
