"""The Ceph driver."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import random
import threading
import time
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from gnocchi.drivers import ceph, ceph_cluster, ceph_incoming, ceph_index
from gnocchi.drivers.ceph_cluster import Cluster
from gnocchi.errors import Unavailable
from gnocchi.storage import NoSuchObject
from tests.conformance.incoming import IncomingConformance
from tests.conformance.models import SACKS, names
from tests.conformance.points import in_sacks, values
from tests.conformance.storage import StorageConformance
from tests.conformance.waiting import take_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers import CephServer


FOREIGN = "rbd_data.1"


class Pool:
    """The pool, emptied."""

    def __init__(self, server: CephServer, timeout_s: int = 30) -> None:
        self.conf = SimpleNamespace(
            ceph_pool=server.pool,
            ceph_username=server.user,
            ceph_secret=server.secret,
            ceph_keyring=None,
            ceph_timeout=timeout_s,
            ceph_conffile=str(server.configuration),
        )
        self.cluster = Cluster.of(self.conf)
        self.remove(self.names())

    def names(self) -> list[str]:
        """Every object of the pool."""
        return list(self.cluster.everything("list"))

    def remove(self, names: list[str]) -> None:
        """Remove RADOS objects."""
        self.cluster.together(
            "remove", [lambda io, name=name: io.aio_remove(name) for name in names]
        )

    def omap(self, name: str) -> dict[str, bytes]:
        """The keys and values of an object."""

        def read(io: Any) -> dict[str, bytes]:
            found: dict[str, bytes] = {}
            while True:
                with self.cluster.rados.ReadOpCtx() as op:
                    values, _ = io.get_omap_vals(op, max(found, default=""), "", 1000)
                    io.operate_read_op(op, name)
                    page = {key: bytes(value or b"") for key, value in values}
                if not page:
                    return found
                found.update(page)

        return self.cluster.run("read", read)

    def set_omap(self, name: str, values: dict[str, bytes]) -> None:
        """Set keys of an object."""

        def write(io: Any) -> None:
            with self.cluster.write_op() as op:
                io.set_omap(op, tuple(values), tuple(values.values()))
                io.operate_write_op(op, name)

        self.cluster.run("write", write)


class StoragePlace(Pool):
    """A pool."""

    def open(self) -> ceph.CephStorage:
        return ceph.CephStorage(self.conf)


class IncomingPlace(Pool):
    """A pool."""

    def open(self, sacks: int = SACKS) -> ceph.CephIncoming:
        return ceph.CephIncoming(self.conf, sacks)

    def _stored(self) -> Iterator[tuple[str, str | None, bytes]]:
        """Object, key of its omap unless it is the object's data, and bytes of what waits."""
        for name in self.names():
            if not name.startswith("gnocchi_incoming"):
                continue
            if name.count("_") == 3:
                yield name, None, self.cluster.read_whole("read", name)
                continue
            for key, value in self.omap(name).items():
                if ceph_index.Name.parse(key) is not None:
                    yield name, key, value

    def objects(self) -> list[bytes]:
        return [data for _, _, data in self._stored()]

    def change(self, change: Callable[[bytes], bytes]) -> None:
        for name, key, data in list(self._stored()):
            if key is None:
                self.cluster.put("change", name, change(data))
            else:
                self.set_omap(name, {key: change(data)})

    def kept(self) -> set[bytes]:
        names = [name for name in self.names() if name.startswith(ceph_incoming.DAMAGED)]
        return {self.cluster.read_whole("read", name) for name in names}

    @contextlib.contextmanager
    def failing(self, call: int) -> Iterator[None]:
        """Calls fail without effect (even numbers), or after they had it (odd ones)."""
        numbers = itertools.count()
        real = Cluster.run

        def run(cluster: Cluster, what: str, function: Callable[[Any], Any]) -> Any:
            if next(numbers) == call:
                raise Unavailable(what)
            result = real(cluster, what, function)
            if next(numbers) == call:
                raise Unavailable(what)
            return result

        with mock.patch.object(Cluster, "run", run):
            yield


class TestCephStorage(StorageConformance):
    @pytest.fixture
    def new_place(self, ceph_server: CephServer) -> Callable[[], StoragePlace]:
        return lambda: StoragePlace(ceph_server)

    @pytest.fixture
    def place(self, ceph_server: CephServer) -> StoragePlace:
        return StoragePlace(ceph_server)


class TestCephIncoming(IncomingConformance):
    @pytest.fixture
    def new_place(self, ceph_server: CephServer) -> Callable[[], IncomingPlace]:
        return lambda: IncomingPlace(ceph_server)

    @pytest.fixture
    def place(self, ceph_server: CephServer) -> IncomingPlace:
        return IncomingPlace(ceph_server)


class TestCephIncomingOfLargeRequests(TestCephIncoming):
    """All requests have objects of their own, and listings several pages."""

    @pytest.fixture(autouse=True)
    def limits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ceph_incoming, "INLINE", 0)
        monkeypatch.setattr(ceph_incoming, "HEAD", 10)
        monkeypatch.setattr(ceph_incoming, "VALUES", 7)
        monkeypatch.setattr(ceph_index, "PAGE", 11)
        monkeypatch.setattr(ceph_cluster, "PART", 1 << 20)


class TestSharedPool:
    """What is particular to a pool: who else uses it, and in which order writers are seen."""

    @pytest.fixture
    def place(self, ceph_server: CephServer) -> IncomingPlace:
        return IncomingPlace(ceph_server)

    def test_objects_of_others_stay_and_are_not_listed(
        self, ceph_server: CephServer, place: IncomingPlace
    ) -> None:
        storage = StoragePlace(ceph_server).open()
        place.cluster.put("write", FOREIGN, b"foreign")
        incoming = place.open()
        storage.upgrade()
        incoming.upgrade()
        storage.put("mine", b"x")
        incoming.add(in_sacks(SACKS, [1], 1.0))
        assert names(storage) == ["mine"]
        storage.delete(["mine", FOREIGN])
        incoming.discard(take_all(incoming))
        assert incoming.tidy(-1.0) == 0
        assert place.cluster.read_whole("read", FOREIGN) == b"foreign"

    def test_numbers_of_sacks_do_not_see_one_another(self, place: IncomingPlace) -> None:
        few, many = place.open(SACKS), place.open(8)
        few.add(in_sacks(SACKS, [1], 1.0))
        assert many.waiting() == {}
        many.add(in_sacks(8, [1], 2.0))
        assert values(take_all(few)) == [1.0]
        assert values(take_all(many)) == [2.0]

    def test_small_requests_are_in_the_index_and_large_ones_are_not(
        self, place: IncomingPlace
    ) -> None:
        incoming = place.open()
        incoming.upgrade()
        incoming.add(in_sacks(SACKS, range(SACKS), 1.0))
        (index,) = place.names()
        incoming.add(in_sacks(SACKS, range(SACKS), *([2.0] * 5000)))
        assert len(place.names()) == 2
        assert sum(map(len, place.omap(index).values())) < 1000
        assert len(take_all(incoming, [2]).points) == 5001

    def test_object_beyond_the_limits_of_rados_is_whole(
        self, ceph_server: CephServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ceph_cluster, "PART", 10)
        place = StoragePlace(ceph_server)
        storage = place.open()
        data = bytes(range(35))
        storage.put("large", data)
        for offset, length in itertools.product((0, 3, 9, 10, 11, 30, 34, 35, 50), (0, 1, 7, 40)):
            assert storage.read("large", offset, length) == data[offset : offset + length]
        assert names(storage) == ["large"]
        storage.delete(["large"])
        assert place.names() == []
        with pytest.raises(NoSuchObject):
            storage.read("large", 20, 5)

    def test_parts_of_an_unfinished_write_are_listed_and_deleted(
        self, ceph_server: CephServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ceph_cluster, "PART", 10)
        place = StoragePlace(ceph_server)
        storage = place.open()
        storage.put("large", bytes(35))
        place.remove(["gnocchi_segment_large"])
        with pytest.raises(NoSuchObject):
            storage.read("large", 20, 5)
        assert names(storage) == ["large"]
        storage.delete(["large"])
        assert place.names() == []

    def test_object_of_a_write_that_was_cut_short_is_tidied_once_it_is_old(
        self, place: IncomingPlace
    ) -> None:
        incoming = place.open()
        incoming.upgrade()
        killed = mock.patch.object(Cluster, "together", side_effect=Unavailable("gone"))
        with killed, pytest.raises(Unavailable):
            incoming.add(in_sacks(SACKS, [1], *([2.0] * 5000)))
        incoming.add(in_sacks(SACKS, [1], *([1.0] * 5000)))
        assert len(place.names()) == 3
        assert incoming.tidy(3600.0) == 0
        assert incoming.tidy(-5.0) == 1
        assert len(place.names()) == 2
        assert set(values(take_all(incoming))) == {1.0}

    def test_large_request_without_its_object_is_damage_and_holds_up_nothing(
        self, place: IncomingPlace
    ) -> None:
        incoming = place.open()
        incoming.add(in_sacks(SACKS, [1], *([2.0] * 5000)))
        (lost,) = (name for name in place.names() if name.count("_") == 3)
        place.remove([lost])
        incoming.add(in_sacks(SACKS, [1], 1.0))
        taken = take_all(incoming)
        assert values(taken) == [1.0]
        assert len(taken.damaged) == 1
        incoming.discard(taken)
        assert incoming.waiting() == {}
        assert not take_all(incoming).damaged

    def test_writer_whose_clock_is_behind_is_processed_after_what_was_listed(
        self, place: IncomingPlace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else a listing of several operations may miss an old point and see a newer one."""
        monkeypatch.setattr(ceph_index, "PAGE", 4)
        late, reader = place.open(), place.open()
        for number in range(9):
            place.open().add(in_sacks(SACKS, [1], float(number)))
        assert len(take_all(reader, [1]).receipt) == 9
        with mock.patch("gnocchi.drivers.names.time.time_ns", return_value=10**18):
            for number in range(100, 103):
                late.add(in_sacks(SACKS, [1], float(number)))
            late.add(in_sacks(SACKS, [1], *([103.0] * 500)))
        found = values(take_all(reader, [1]))
        assert [value for value in found if value >= 100] == [100.0, 101.0, 102.0] + [103.0] * 500
        assert len(place.objects()) == 13
        reader.discard(take_all(reader))
        assert place.objects() == []

    def test_listings_follow_the_queue_and_nothing_is_left_behind_their_start(
        self, place: IncomingPlace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ceph_index, "LATE_S", 0.0)
        monkeypatch.setattr(ceph_index, "ADVANCE_S", -1.0)
        incoming, stale = place.open(), place.open()
        incoming.add(in_sacks(SACKS, [0, 1], 0.0))
        late = take_all(stale, [0])
        for number in range(1, 5):
            incoming.discard(take_all(incoming))
            incoming.add(in_sacks(SACKS, [0, 1], float(number)))
            incoming.discard(take_all(incoming, [0]))
            incoming.discard(take_all(place.open(), [1]))
            assert take_all(place.open()).receipt == []
        incoming.add(in_sacks(SACKS, [0], 9.0))
        stale.discard(late)
        (index,) = place.names()
        assert any(key.startswith(late.receipt[0].request.name.stem) for key in place.omap(index))
        assert incoming.tidy(3600.0) == 1
        assert values(take_all(place.open())) == [9.0]
        incoming.discard(take_all(incoming))
        assert set(place.omap(index)) <= {"!floor", "!start", "~"}

    def test_rounds_see_every_writer_in_order_however_their_clocks_differ(
        self, place: IncomingPlace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ceph_index, "PAGE", 5)
        behind = threading.local()
        real = time.time_ns

        def time_ns() -> int:
            # one that jitters back and forth, as far as that is possible
            return real() - getattr(behind, "ns", 0) * random.randrange(2)

        def write(writer: int) -> None:
            behind.ns = writer * 20_000_000
            client = place.open()
            for number in range(150):
                client.add(in_sacks(SACKS, [1], writer * 1000.0 + number))

        seen: list[float] = []

        def drain() -> None:
            client = place.open()
            alive = True
            while alive:
                alive = any(thread.is_alive() for thread in writers)
                taken = client.take([1], 1 << 40)
                seen.extend(values(taken))
                client.discard(taken)

        with mock.patch("gnocchi.drivers.names.time.time_ns", time_ns):
            writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
            for thread in writers:
                thread.start()
            try:
                drain()
            finally:
                for thread in writers:
                    thread.join()
        assert len(seen) == 600
        for writer in range(4):
            mine = [value for value in seen if value // 1000 == writer]
            assert mine == [writer * 1000.0 + number for number in range(150)]

    def test_take_that_is_bounded_before_a_group_hides_nothing_of_it(
        self, place: IncomingPlace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ceph_index, "PAGE", 3)
        incoming = place.open(300)
        incoming.add(in_sacks(300, [0], -1.0))
        for number in range(8):
            incoming.add(in_sacks(300, [299], float(number)))
        stale = ceph_index.mark_key("0000000000000001-00000000", 1, 1, 1)
        place.set_omap("gnocchi_incoming300_1", {stale: b"", "!floor": b"f"})
        for client in (incoming, place.open(300)):
            assert values(client.take([0, 299], 1)) == [-1.0]
        assert values(take_all(place.open(300), [299])) == list(map(float, range(8)))

    def test_requests_that_are_half_done_are_counted_exactly(self, place: IncomingPlace) -> None:
        incoming = place.open()
        for number in range(3):
            incoming.add(in_sacks(SACKS, [0, 1, 2], float(number), 9.0))
        overlapping = take_all(incoming, [0, 1])
        incoming.discard(take_all(place.open(), [0]))
        assert incoming.backlog()[:2] == (6, 12)
        incoming.discard(overlapping)
        assert incoming.backlog()[:2] == (3, 6)

    def test_forked_child_has_a_connection_of_its_own(self, place: IncomingPlace) -> None:
        incoming = place.open()
        incoming.add(in_sacks(SACKS, [1], 1.0))
        child = multiprocessing.get_context("fork").Process(
            target=incoming.add, args=(in_sacks(SACKS, [1], 2.0),)
        )
        with warnings.catch_warnings():
            # other tests may have left threads that wait
            warnings.simplefilter("ignore", DeprecationWarning)
            child.start()
        child.join(30)
        assert child.exitcode == 0
        incoming.add(in_sacks(SACKS, [1], 3.0))
        assert values(take_all(incoming)) == [1.0, 2.0, 3.0]
