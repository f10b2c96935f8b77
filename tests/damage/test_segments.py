"""Every bit of a segment is flipped: no answer is wrong, and only its own rows can be missing."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

import pytest

from gnocchi.engine import compact, janitor
from gnocchi.errors import CorruptObject, Unavailable
from gnocchi.indexer import catalog
from gnocchi.segments import row_groups
from gnocchi.segments import segment as segments
from tests import engine_fixtures as fixtures
from tests.damage.flips import errors_logged, flipped, forget, reported, restarted

if TYPE_CHECKING:
    import pathlib

    from gnocchi.drivers.memory import MemoryStorage
    from gnocchi.indexer.catalog import Segment
    from gnocchi.model import Metric
    from gnocchi.service import Services

METHODS = ("count", "sum", "rate:last")
Answers = dict[tuple[int, str, int], dict[int, float]]
EVERY = 307  # bits, where each costs many reads; a prime number, so that all parts are hit


class Store:
    """Two segments: the second replaces rows of the first, and has rows of its own.

    Metric 1 has rows in both, 2 only in the first, 3 only in the second.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.services = fixtures.services(directory, sacks=1, memory=True)
        policy = fixtures.policy(
            self.services, granularities=[(60, None), (600, None)], methods=METHODS
        )
        self.metrics = [fixtures.metric(self.services, n, policy) for n in (1, 2, 3)]
        one, two, three = self.metrics
        self.sent: dict[Metric, list[tuple[int, float]]] = {m: [] for m in self.metrics}
        self.send({one: [(0, 1.0), (30, 2.0), (70, 4.0)], two: [(10, 8.0), (50, 16.0)]})
        self.send({one: [(80, 32.0), (200, 64.0)], three: [(90, 128.0), (100, 256.0)]})
        self.first, self.second = self.services.reader.snapshot().segments

    def send(self, measures: dict[Metric, list[tuple[int, float]]]) -> None:
        fixtures.send(self.services, measures)
        fixtures.work(self.services)
        for metric, points in measures.items():
            self.sent[metric] += points

    @property
    def objects(self) -> dict[str, tuple[float, bytes]]:
        storage: MemoryStorage = self.services.storage  # type: ignore[assignment]
        return storage.objects

    def data(self, segment: Segment) -> bytes:
        return self.objects[segment.name][1]

    def replace(self, segment: Segment, data: bytes) -> None:
        self.objects[segment.name] = time.time(), data

    def answers(self, services: Services, methods: tuple[str, ...] = METHODS) -> Answers:
        """Every aggregate of every metric."""
        return {
            (number, method, granularity): fixtures.answer(services, metric, method, granularity)
            for number, metric in enumerate(self.metrics)
            for method in methods
            for granularity in (60, 600)
        }


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Store:
    return Store(tmp_path)


def assert_lacks_only(found: Answers, right: Answers) -> bool:
    """Everything that is answered is right; return whether all of it is there."""
    for key, answer in found.items():
        assert answer.items() <= right[key].items(), key
    return found == right


def test_bits_that_do_not_match_a_checksum_are_never_decoded(store: Store) -> None:
    """All bits: each belongs to the tail, to one row group, or to Parquet's four bytes of magic."""
    segment, storage = store.second, store.services.storage
    data = store.data(segment)
    tail = store.services.reader.tail(segment)
    groups = [(int(g["offset"]), int(g["offset"]) + int(g["length"])) for g in tail.groups]

    def read(byte: int) -> None:
        if byte >= segment.tail:
            segments.read_tail(storage, segment.name, segment.size, segment.tail, segment.tail_crc)
        else:
            (hit,) = (n for n, (low, high) in enumerate(groups) if low <= byte < high)
            row_groups.read_group(storage, tail, hit)

    for byte in range(4, len(data)):
        for bit in range(8):
            store.replace(segment, flipped(data, 8 * byte + bit))
            with pytest.raises(CorruptObject):
                read(byte)


@pytest.mark.parametrize("which", ["first", "second"])
def test_flipped_bit_of_a_segment_never_makes_an_answer_wrong(
    store: Store, which: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor brings back an older row. What lacks something is reported, logged once and kept."""
    segment: Segment = getattr(store, which)
    data = store.data(segment)
    right = store.answers(store.services)
    lacking = 0
    for bit in range(32, 8 * len(data), EVERY):
        forget(store.services)
        store.replace(segment, flipped(data, bit))
        services = restarted(store.services)
        with errors_logged(caplog) as messages:
            found = store.answers(services)
            if not assert_lacks_only(found, right):
                lacking += 1
                assert reported(services) == {segment.name}
            assert store.answers(services) == found
            assert store.answers(restarted(services)) == found
        assert len(messages) == len(reported(services))
        # metrics that have no row in it
        assert {key: a for key, a in found.items() if key[0] == (2 if which == "first" else 1)} == {
            key: a for key, a in right.items() if key[0] == (2 if which == "first" else 1)
        }
        assert store.data(segment) == flipped(data, bit)
    assert lacking > 20


def test_bits_of_the_magic_matter_to_nobody(store: Store) -> None:
    """Parquet's first four bytes are for other software; no row depends on them."""
    right = store.answers(store.services)
    data = store.data(store.first)
    for bit in range(32):
        store.replace(store.first, flipped(data, bit))
        assert store.answers(restarted(store.services)) == right


@pytest.mark.parametrize("which", ["first", "second"])
def test_rounds_and_merges_go_on_beside_damage_and_compute_nothing_wrong(
    tmp_path: pathlib.Path, which: str
) -> None:
    """A bucket is right as of one moment, or not there; nothing is computed from what is left."""
    for number in itertools.count():
        directory = tmp_path / str(number)
        directory.mkdir()
        store = Store(directory)
        segment: Segment = getattr(store, which)
        data = store.data(segment)
        size = 8 * len(data)
        bit = 32 + number * (size // 16)
        if bit >= size:
            break
        damaged = flipped(data, bit)
        before = store.answers(store.services, ("count", "sum"))
        store.replace(segment, damaged)
        store.services = restarted(store.services)
        one, two, three = store.metrics
        # into buckets that are there, into one that was closed, and into new ones
        store.send({one: [(210, 0.5), (260, 0.25)], two: [(55, 0.5), (1300, 0.25)]})
        store.send({three: [(95, 0.5), (1400, 0.25)]})
        right = expected(store)
        while compact.run_once(store.services, fan_in=2):
            pass
        janitor.remove_retired(store.services, grace_s=-5)
        janitor.remove_orphans(store.services, grace_s=-5)
        services = restarted(store.services)
        found = store.answers(services, ("count", "sum"))
        for key, answer in found.items():
            for at, value in answer.items():
                # as of before the last rounds, or after either of them
                assert value in {before[key].get(at), *right[key].get(at, [])}, (bit, key, at)
        complete = all(answer.keys() == right[key].keys() for key, answer in found.items())
        if reported(services):
            assert store.data(segment) == damaged
        else:
            assert complete
        assert_counts_go_with_sums(found)
        store.services.db.close()


def expected(store: Store) -> dict[tuple[int, str, int], dict[int, list[float]]]:
    """For each bucket the aggregate of all points that were sent."""
    wanted = {}
    for number, metric in enumerate(store.metrics):
        for granularity in (60, 600):
            buckets: dict[int, list[float]] = {}
            for at, value in store.sent[metric]:
                buckets.setdefault(at - at % granularity, []).append(value)
            wanted[number, "count", granularity] = {
                at: [float(len(values))] for at, values in buckets.items()
            }
            wanted[number, "sum", granularity] = {at: [sum(v)] for at, v in buckets.items()}
    return wanted


def assert_counts_go_with_sums(found: Answers) -> None:
    """All methods of a bucket are of one row, and values are powers of two."""
    for (number, method, granularity), sums in found.items():
        if method == "sum":
            for at, value in sums.items():
                count = found[number, "count", granularity][at]
                assert (int(value * 4)).bit_count() == count


def test_rate_after_damaged_raw_points_is_missing_rather_than_wrong(store: Store) -> None:
    """The point before is damaged: a difference to the one before that is not the rate."""
    one = store.metrics[0]
    tail = store.services.reader.tail(store.second)
    (raw,) = [g for g in tail.groups if g["granularity"] == segments.RAW]
    data = store.data(store.second)
    store.replace(store.second, flipped(data, 8 * int(raw["offset"]) + 100))
    store.services = restarted(store.services)
    store.send({one: [(700, 1000.0)]})
    # the last raw point that can be read is (70, 4.0), the true one before is (200, 64.0)
    answer = fixtures.answer(store.services, one, "rate:last", 60)
    assert answer.get(660, 936.0) == 936.0
    assert fixtures.answer(store.services, one, "sum", 60)[660] == 1000.0


def test_damaged_segment_is_not_merged_and_its_bytes_are_kept(store: Store) -> None:
    damaged = flipped(store.data(store.first), 8 * 100)
    store.replace(store.first, damaged)
    services = restarted(store.services)
    before = store.answers(services)
    for minute in range(20, 26):
        fixtures.send(services, {store.metrics[1]: [(60 * minute, 1.0)]})
        fixtures.work(services)
    while compact.run_once(services, fan_in=2):
        pass
    janitor.remove_retired(services, grace_s=-5)
    live = services.reader.snapshot().segments
    assert [s.name for s in live if s.last <= store.first.last] == [store.first.name]
    assert len(live) == 2
    assert store.data(store.first) == damaged
    assert_lacks_only(before, store.answers(services))
    assert reported(services) == {store.first.name}


def test_object_that_is_missing_is_an_error_and_no_empty_answer(store: Store) -> None:
    """Nobody knows why it is gone; it may come back."""
    del store.objects[store.first.name]
    services = restarted(store.services)
    with pytest.raises(Unavailable, match="missing"):
        store.answers(services)
    fixtures.send(services, {store.metrics[0]: [(210, 1.0)]})
    with pytest.raises(Unavailable, match="missing"):
        fixtures.work(services)
    assert services.incoming.waiting().keys() == {0}


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"",
        lambda data: data[:100],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: bytes(len(data)),
        lambda data: data[::-1],
    ],
    ids=["empty", "a piece", "cut by one", "longer", "zeros", "backwards"],
)
def test_any_bytes_in_place_of_a_segment_stop_nobody(store: Store, change: object) -> None:
    right = store.answers(store.services)
    store.replace(store.second, change(store.data(store.second)))  # type: ignore[operator]
    services = restarted(store.services)
    complete = assert_lacks_only(store.answers(services), right)
    assert complete or reported(services) == {store.second.name}
    fixtures.send(services, {m: [(3600, 1.0)] for m in store.metrics})
    fixtures.work(services)
    for metric in store.metrics:
        assert fixtures.answer(services, metric, "count")[3600] == 1.0


# ------------------------------------------------------------------ the catalog's entries

COLUMNS = ("first", "last", "low", "high", "start", "stop", "rows_", "size", "tail", "tail_crc",
           "deletions", "crc")  # fmt: skip


def overwrite(services: Services, column: str, value: int | bytes) -> None:
    """Change a column of the newest entry behind everybody's back."""
    with services.db.write() as connection:
        cast = "CAST(? AS TEXT)" if isinstance(value, bytes) else "?"
        connection.exec_driver_sql(
            f"UPDATE segment SET {column} = {cast} WHERE rowid = "
            "(SELECT rowid FROM segment ORDER BY rowid DESC LIMIT 1)",
            (value,),
        )
        # so that nobody answers from memory
        connection.exec_driver_sql("UPDATE state SET value = value + 1 WHERE name = 'catalog'")


def stored(services: Services, column: str) -> int | bytes:
    with services.db.read() as connection:
        found: int | bytes = connection.exec_driver_sql(
            f"SELECT {column if column in COLUMNS else f'CAST({column} AS BLOB)'} FROM segment "
            "ORDER BY rowid DESC LIMIT 1"
        ).scalar_one()
    return found


@pytest.mark.parametrize("column", COLUMNS)
def test_flipped_bit_of_a_number_in_the_catalog_changes_no_answer(
    store: Store, column: str
) -> None:
    right = store.answers(store.services, ("count",))
    value = stored(store.services, column)
    assert isinstance(value, int)
    for bit in range(63):
        overwrite(store.services, column, value ^ 1 << bit)
        assert store.answers(restarted(store.services), ("count",)) == right
        if bit == 20:
            # a process that is running
            assert store.answers(store.services, ("count",)) == right


@pytest.mark.parametrize(("column", "every"), [("name", 5), ("copy", 19)])
def test_flipped_bit_of_a_text_in_the_catalog_changes_no_answer(
    store: Store, column: str, every: int
) -> None:
    right = store.answers(store.services, ("count",))
    value = stored(store.services, column)
    assert isinstance(value, bytes)
    for bit in range(0, 8 * len(value), every):
        overwrite(store.services, column, flipped(value, bit))
        assert store.answers(restarted(store.services), ("count",)) == right
    overwrite(store.services, column, flipped(value, 11))
    # rounds and merges go on
    services = restarted(store.services)
    fixtures.send(services, {store.metrics[0]: [(3600, 1.0)]})
    fixtures.work(services)
    while compact.run_once(services, fan_in=2):
        pass
    janitor.remove_orphans(services, grace_s=-5)
    again = store.answers(restarted(services), ("count",))
    assert_lacks_only(right, again)
    assert len(catalog.live(services.db).segments) == 1
