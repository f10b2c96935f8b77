"""Segments and incoming points in a Ceph pool, through RADOS.

Objects in the pool, all in the default namespace (doc/backends/ceph.rst)::

    gnocchi_segment_<name>                    a segment
    gnocchi_probe                             what an upgrade has tried to write
    gnocchi_incoming<sacks>_<group>           index of what waits, a group is 256 sacks
    gnocchi_incoming<sacks>_<group>_<stem>    a large request
    gnocchi_damaged_<stem>                    bytes of an incoming object that failed its checksum

The incoming half is in `gnocchi.drivers.ceph_incoming`. The pool is listed only for the janitor:
that costs time in proportion to everything in the pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gnocchi.drivers.ceph_cluster import AT_ONCE, Cluster, Range, part_name
from gnocchi.drivers.ceph_incoming import CephIncoming
from gnocchi.storage import NoSuchObject, Storage, Stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["CephIncoming", "CephStorage"]

SEGMENT = "gnocchi_segment_"
PROBE = "gnocchi_probe"

_LISTING = "Unable to list a Ceph pool"


class CephStorage(Storage):
    """Segments as RADOS objects."""

    def __init__(self, conf: Any) -> None:
        self._cluster = Cluster.of(conf)

    def give_up_after(self, seconds: float) -> None:
        self._cluster.give_up_after(seconds)

    def upgrade(self) -> None:
        """Nothing has to be created; show that the pool can be written to and read from."""
        what = "Unable to use Ceph"
        self._cluster.put(what, PROBE, b"written by gnocchi-upgrade")
        self._cluster.read(what, [Range(PROBE, 0, 1)])

    def put(self, name: str, data: bytes | memoryview) -> None:
        self._cluster.put("Unable to write a segment", SEGMENT + name, data)

    def read(self, name: str, offset: int, length: int) -> bytes:
        (found,) = self._cluster.read(
            "Unable to read a segment", [Range(SEGMENT + name, offset, length)]
        )
        if found is None:
            raise NoSuchObject(name)
        return found

    def delete(self, names: Iterable[str]) -> None:
        self._cluster.remove("Unable to delete a segment", [SEGMENT + name for name in names])

    def list(self) -> Iterator[Stored]:
        names = []
        parted: set[str] = set()
        for key in self._cluster.everything(_LISTING):
            if key.startswith(SEGMENT):
                name, _, part = key.removeprefix(SEGMENT).partition("/")
                if part:
                    parted.add(name)
                    continue
                names.append(name)
            if len(names) == AT_ONCE:
                yield from self._with_ages(names)
                names = []
        yield from self._with_ages(names)
        yield from self._headless(sorted(parted))

    def _with_ages(self, names: Sequence[str]) -> Iterator[Stored]:
        ages = self._cluster.ages(_LISTING, [SEGMENT + name for name in names])
        for name, age_s in zip(names, ages, strict=True):
            if age_s is not None:
                yield Stored(name, age_s)

    def _headless(self, names: Sequence[str]) -> Iterator[Stored]:
        """Objects of several parts that were not written, or not removed, completely."""
        heads = self._cluster.ages(_LISTING, [SEGMENT + name for name in names])
        left = [name for name, age_s in zip(names, heads, strict=True) if age_s is None]
        ages = self._cluster.ages(_LISTING, [part_name(SEGMENT + name, 1) for name in left])
        for name, age_s in zip(left, ages, strict=True):
            if age_s is not None:
                yield Stored(name, age_s)
