"""Rounds, segments and sacks in the catalog."""

from __future__ import annotations

import dataclasses
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from gnocchi import errors
from gnocchi.indexer import catalog, entries, metrics, policies, tables
from gnocchi.indexer.catalog import Counters
from gnocchi.indexer.database import Database
from tests.indexer import samples
from tests.indexer.test_entries import NUMBERS, flipped

if TYPE_CHECKING:
    from collections.abc import Iterable

NOTHING = Counters(0, 0, 0, 0)


@pytest.fixture
def db(database: Database) -> Database:
    """A database with four sacks."""
    catalog.create_sacks(database, 4)
    return database


def commit(db: Database, name: str, sack: int = 0, **changes: Any) -> catalog.Segment:
    """Commit a round of one sack that wrote a segment."""
    segment = samples.segment(name, **changes)
    placed = catalog.commit_round(db, {sack: catalog.sacks(db)[sack]}, segment, {})
    assert placed is not None
    return placed


def names(segments: Iterable[catalog.Segment]) -> list[str]:
    return [segment.name for segment in segments]


# ------------------------------------------------------------------ state and sacks


def test_state_counts_each_kind_of_change(db: Database) -> None:
    policy = samples.stored_policy(db)
    metric = samples.metric(policy)
    metrics.create(db, metric)
    sacks = len(catalog.sacks(db))
    assert catalog.state(db) == catalog.State(catalog=0, deletions=0, policies=1, sacks=sacks)
    metrics.delete(db, metric.id)
    commit(db, "a")
    policies.update(db, policy)
    assert catalog.state(db) == catalog.State(catalog=1, deletions=1, policies=2, sacks=sacks)
    catalog.change_sacks(db, sacks + 1)
    assert catalog.state(db).sacks == sacks + 1


def test_sacks_are_created_once(database: Database) -> None:
    assert catalog.sacks(database) == {}
    catalog.create_sacks(database, 3)
    catalog.commit_round(database, {1: 0}, None, {})
    catalog.create_sacks(database, 5)
    assert catalog.sacks(database) == {0: 0, 1: 1, 2: 0}


def test_number_of_sacks_is_positive(database: Database) -> None:
    for change in (catalog.create_sacks, catalog.change_sacks):
        with pytest.raises(ValueError, match="at least one"):
            change(database, 0)


def test_changing_the_number_of_sacks_fences_old_rounds_and_keeps_the_sums(db: Database) -> None:
    for generation in range(3):
        catalog.commit_round(db, {2: generation}, None, {2: Counters(4, 3, 2, 1)})
    old = catalog.sacks(db)
    catalog.change_sacks(db, 2)
    assert catalog.sacks(db) == {0: 4, 1: 4}
    assert catalog.totals(db) == Counters(12, 9, 6, 3)
    for sack, generation in old.items():
        with pytest.raises(errors.StaleGeneration):
            catalog.commit_round(db, {sack: generation}, None, {})
    catalog.change_sacks(db, 6)
    assert catalog.sacks(db) == dict.fromkeys(range(6), 5)


def test_sacks_created_at_the_same_time(database: Database) -> None:
    threads = [
        threading.Thread(target=catalog.create_sacks, args=(database, number))
        for number in (3, 3, 3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert catalog.sacks(database) == {0: 0, 1: 0, 2: 0}


# ------------------------------------------------------------------ rounds


def test_round_moves_generations_counts_and_places_the_segment(db: Database) -> None:
    segment = samples.segment("a", first=0, last=0)
    counters = {1: Counters(10, 1, 0, 3), 3: Counters(20, 0, 2, 0)}
    placed = catalog.commit_round(db, {1: 0, 3: 0}, segment, counters)
    assert placed == dataclasses.replace(segment, first=1, last=1)
    assert catalog.sacks(db) == {0: 0, 1: 1, 2: 0, 3: 1}
    assert catalog.totals(db) == Counters(30, 1, 2, 3)
    assert catalog.live(db) == catalog.Snapshot(1, (placed,), ())


def test_sequence_numbers_follow_the_commits(db: Database) -> None:
    assert [commit(db, name).last for name in "abc"] == [1, 2, 3]
    assert names(catalog.live(db).segments) == ["a", "b", "c"]


def test_round_without_rows_moves_generations_only(db: Database) -> None:
    assert catalog.commit_round(db, {0: 0, 1: 0}, None, {0: Counters(0, 7, 0, 0)}) is None
    assert catalog.sacks(db) == {0: 1, 1: 1, 2: 0, 3: 0}
    assert catalog.state(db).catalog == 0
    assert catalog.totals(db) == Counters(0, 7, 0, 0)


def test_counters_hold_more_than_32_bits(db: Database) -> None:
    for generation in range(2):
        catalog.commit_round(db, {0: generation}, None, {0: Counters(2**40, 0, 0, 0)})
    assert catalog.totals(db) == Counters(2**41, 0, 0, 0)


@pytest.mark.parametrize("generations", [{0: 0, 1: 0, 2: 1}, {2: 0, 9: 0}, {2: -1}])
def test_stale_round_changes_nothing(db: Database, generations: dict[int, int]) -> None:
    catalog.commit_round(db, {1: 0}, None, {})
    before = catalog.sacks(db), catalog.state(db), catalog.totals(db), catalog.live(db)
    with pytest.raises(errors.StaleGeneration) as raised:
        catalog.commit_round(db, generations, samples.segment("late"), {2: Counters(1, 1, 1, 1)})
    stored = before[0]
    assert raised.value.sacks == [n for n, g in generations.items() if stored.get(n) != g]
    assert (catalog.sacks(db), catalog.state(db), catalog.totals(db), catalog.live(db)) == before


def test_committed_round_cannot_be_committed_again(db: Database) -> None:
    catalog.commit_round(db, {0: 0}, samples.segment("a"), {0: Counters(5, 0, 0, 0)})
    with pytest.raises(errors.StaleGeneration):
        catalog.commit_round(db, {0: 0}, samples.segment("b"), {0: Counters(5, 0, 0, 0)})
    assert names(catalog.live(db).segments) == ["a"]
    assert catalog.totals(db).accepted == 5


def test_round_of_no_sack_or_with_counters_of_another_is_a_defect(db: Database) -> None:
    with pytest.raises(ValueError, match="at least one sack"):
        catalog.commit_round(db, {}, samples.segment(), {})
    with pytest.raises(ValueError, match="not of this round"):
        catalog.commit_round(db, {0: 0}, None, {1: Counters(1, 0, 0, 0)})


def test_of_workers_at_the_same_sack_one_commits(db: Database) -> None:
    """Several workers with the same generations: one wins each time, and nothing is mixed up."""
    url = db.url.render_as_string(hide_password=False)
    workers, rounds = 4, 5
    barrier = threading.Barrier(workers)
    won: list[tuple[int, int]] = []

    def work(worker: int) -> None:
        own = Database(url)
        for number in range(rounds):
            barrier.wait(30)
            # Overlapping sets in different orders, as an unfenced pair of workers would take.
            sacks = (0, 1, 2) if worker % 2 else (2, 1)
            try:
                catalog.commit_round(
                    own,
                    dict.fromkeys(sacks, number),
                    samples.segment(f"w{worker}-r{number}"),
                    {1: Counters(1, 0, 0, 0)},
                )
            except errors.StaleGeneration:
                continue
            finally:
                barrier.wait(30)
                if worker == 0:  # the loser's sack catches up, so that all may go on
                    for sack, generation in catalog.sacks(own).items():
                        if generation == number:
                            catalog.commit_round(own, {sack: number}, None, {})
            won.append((number, worker))
        own.close()

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(number for number, _worker in won) == list(range(rounds))
    assert catalog.sacks(db) == dict.fromkeys(range(4), rounds)
    assert catalog.totals(db).accepted == rounds
    segments = catalog.live(db).segments
    assert sorted(names(segments)) == sorted(f"w{worker}-r{number}" for number, worker in won)
    assert [segment.last for segment in segments] == list(range(1, rounds + 1))


def test_rounds_of_different_sacks_at_the_same_time_all_commit(db: Database) -> None:
    def work(sack: int) -> None:
        for number in range(10):
            catalog.commit_round(
                db,
                {sack: number},
                samples.segment(f"{sack}-{number}"),
                {sack: Counters(1, 0, 0, 0)},
            )

    threads = [threading.Thread(target=work, args=(sack,)) for sack in range(4)]
    for thread in threads:
        thread.start()
    seen = 0
    while any(thread.is_alive() for thread in threads):
        snapshot = catalog.live(db)  # whoever sees number n sees everything up to n
        assert [s.last for s in snapshot.segments] == list(range(1, snapshot.catalog + 1))
        assert snapshot.catalog >= seen
        seen = snapshot.catalog
    for thread in threads:
        thread.join(60)
    assert catalog.totals(db) == Counters(40, 0, 0, 0)
    assert [s.last for s in catalog.live(db).segments] == list(range(1, 41))


# ------------------------------------------------------------------ live segments


def test_catalog_starts_empty(db: Database) -> None:
    assert catalog.live(db) == catalog.Snapshot(0, (), ())
    assert catalog.live(db, catalog.live(db)) == catalog.Snapshot(0, (), ())


def test_segments_are_sorted_by_sequence_and_hash(db: Database) -> None:
    old = [commit(db, "a"), commit(db, "b")]
    new = [
        samples.segment("high", first=1, last=2, low=9),
        samples.segment("low", first=1, last=2, low=3),
    ]
    commit(db, "c")
    catalog.replace(db, old, new)
    assert names(catalog.live(db).segments) == ["low", "high", "c"]


def test_next_snapshot_equals_one_read_afresh(db: Database) -> None:
    snapshot = catalog.live(db)
    segments = []
    for number in range(5):
        segments.append(commit(db, f"s{number}"))
        snapshot = catalog.live(db, snapshot)
        assert snapshot == catalog.live(db)
    catalog.replace(db, segments[:4], [samples.segment("merged", first=1, last=4)])
    snapshot = catalog.live(db, snapshot)
    assert snapshot == catalog.live(db)
    assert names(snapshot.segments) == ["merged", "s4"]
    assert snapshot.catalog == 6


def test_next_snapshot_reads_only_new_entries(db: Database) -> None:
    commit(db, "a")
    snapshot = catalog.live(db)
    damage(db, "a", rows_=1, copy="nonsense")
    commit(db, "b")
    assert names(catalog.live(db, snapshot).segments) == ["a", "b"]
    assert catalog.live(db).damaged == ("a",)


# ------------------------------------------------------------------ damaged entries


def damage(db: Database, name: str, /, **values: Any) -> None:
    """Change columns of an entry behind the back of the catalog."""
    with db.write() as connection:
        connection.execute(
            tables.segment.update().where(tables.segment.c.name == name).values(**values)
        )


def restore(db: Database, segment: catalog.Segment) -> None:
    with db.write() as connection:
        connection.execute(tables.segment.delete())
        connection.execute(tables.segment.insert(), entries.to_row(segment))


@pytest.mark.parametrize("column", NUMBERS)
def test_no_flipped_bit_of_a_number_yields_a_wrong_entry(db: Database, column: str) -> None:
    segment = commit(db, "segment-1")
    row = entries.to_row(segment)
    for bit in range(0, 64, 1 if db.sqlite else 9):
        damage(db, segment.name, **{column: flipped(row[column], bit)})
        assert catalog.live(db).segments == (segment,), bit
        damage(db, segment.name, **{column: row[column]})
    assert catalog.live(db).damaged == ()


@pytest.mark.parametrize("column", ["name", "copy"])
def test_no_flipped_bit_of_a_text_yields_a_wrong_entry(db: Database, column: str) -> None:
    segment = commit(db, "segment-1")
    text = entries.to_row(segment)[column].encode()
    step = 1 if db.sqlite else 37
    for position in range(0, len(text) * 8, step):
        damaged = bytearray(text)
        damaged[position // 8] ^= 1 << position % 8
        if not store_text(db, segment.name, column, bytes(damaged)):
            continue
        snapshot = catalog.live(db)
        assert snapshot.segments == (segment,), position
        assert snapshot.damaged == (), position
        restore(db, segment)


def store_text(db: Database, name: str, column: str, raw: bytes) -> bool:
    """Store bytes that may be no text, where the database lets that happen at all."""
    if db.sqlite:
        with db.write() as connection:
            connection.exec_driver_sql(
                f'UPDATE segment SET "{column}" = CAST(? AS TEXT) WHERE name = ?', (raw, name)
            )
        return True
    if b"\0" in raw or max(raw) > 127:
        return False
    damage(db, name, **{column: raw.decode()})
    return True


def test_damaged_name_does_not_hide_the_entry_from_a_next_snapshot(db: Database) -> None:
    first = commit(db, "a")
    snapshot = catalog.live(db)
    second = commit(db, "segment-2")
    raw = b"segm\xefnt-2" if db.sqlite else b"segmEnt-2"
    assert store_text(db, "segment-2", "name", raw)
    for _ in range(2):
        snapshot = catalog.live(db, snapshot)
        assert snapshot.segments == (first, second)


def test_entry_with_two_damaged_halves_is_listed_and_others_stay(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    commit(db, "a")
    sound = commit(db, "b")
    damage(db, "a", size=1, copy="nonsense")
    with caplog.at_level(logging.ERROR):
        snapshot = catalog.live(db)
        for _ in range(3):
            snapshot = catalog.live(db, snapshot)
            assert snapshot == catalog.Snapshot(2, (sound,), ("a",))
    assert len(caplog.records) == 1
    assert "a" in caplog.records[0].getMessage()
    assert "cannot be read" in caplog.records[0].getMessage()


def test_damaged_half_is_logged_once(db: Database, caplog: pytest.LogCaptureFixture) -> None:
    segment = commit(db, "a")
    damage(db, "a", size=1)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert catalog.live(db).segments == (segment,)
    assert [record.getMessage() for record in caplog.records] == [
        "Catalog entry a: its columns are damaged; the other half is used, of segment a"
    ]


# ------------------------------------------------------------------ replacing, forgetting


def test_replace(db: Database) -> None:
    old = [commit(db, "a"), commit(db, "b")]
    kept = commit(db, "c")
    new = samples.segment("ab", first=1, last=2)
    catalog.replace(db, old, [new], now=1000.0)
    assert catalog.live(db) == catalog.Snapshot(4, (new, kept), ())
    assert catalog.retired(db, 1000.5) == ["a", "b"]
    assert catalog.retired(db, 1000.0) == []


def test_replace_by_nothing(db: Database) -> None:
    catalog.replace(db, [commit(db, "a")], [])
    assert catalog.live(db).segments == ()
    assert catalog.state(db).catalog == 2


def test_replace_takes_the_clock_by_default(db: Database) -> None:
    catalog.replace(db, [commit(db, "a")], [])
    assert catalog.retired(db, 1.6e9) == []
    assert catalog.retired(db, 4e9) == ["a"]


def test_segments_are_replaced_once(db: Database) -> None:
    first, second = commit(db, "a"), commit(db, "b")
    catalog.replace(db, [first], [], now=1000.0)
    before = catalog.live(db), catalog.retired(db, 2000.0)
    with pytest.raises(errors.StaleSegments) as raised:
        catalog.replace(db, [first, second], [samples.segment("ab")], now=1000.0)
    assert raised.value.names == ["a"]
    assert (catalog.live(db), catalog.retired(db, 2000.0)) == before


def test_of_two_compactions_of_the_same_segments_one_succeeds(db: Database) -> None:
    old = [commit(db, "a"), commit(db, "b")]
    results: list[str] = []

    def work(name: str) -> None:
        try:
            catalog.replace(db, old if name == "x" else old[::-1], [samples.segment(name)])
            results.append(name)
        except errors.StaleSegments:
            results.append("stale")

    threads = [threading.Thread(target=work, args=(name,)) for name in "xy"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results)[0] == "stale"
    assert names(catalog.live(db).segments) == sorted(results)[1:]


def test_segment_of_a_damaged_name_can_be_replaced(db: Database) -> None:
    """Else the compaction would fail at it for ever."""
    segment = commit(db, "segment-1")
    other = commit(db, "other")
    store_text(db, "segment-1", "name", b"segm\xefnt-1" if db.sqlite else b"segmEnt-1")
    catalog.replace(db, [segment], [])
    assert catalog.live(db).segments == (other,)
    assert catalog.retired(db, 4e9) == ["segment-1"]


def test_forget(db: Database) -> None:
    catalog.replace(db, [commit(db, "a")], [], now=1000.0)
    catalog.replace(db, [commit(db, "b")], [], now=1001.0)
    catalog.forget(db, [])
    catalog.forget(db, ["a", "never"])
    assert catalog.retired(db, 2000.0) == ["b"]


def test_known_names_are_live_or_retired(db: Database) -> None:
    catalog.replace(db, [commit(db, "gone")], [])
    catalog.replace(db, [commit(db, "old")], [])
    commit(db, "live")
    catalog.forget(db, ["gone"])
    assert catalog.known(db, ["live", "old", "gone", "orphan", "LIVE"]) == {"live", "old"}
    assert catalog.known(db, []) == set()


def test_segment_of_a_damaged_name_is_known(db: Database) -> None:
    """The janitor would remove its object otherwise."""
    commit(db, "segment-1")
    store_text(db, "segment-1", "name", b"segm\xefnt-1" if db.sqlite else b"segmEnt-1")
    assert catalog.known(db, ["segment-1", "orphan"]) == {"segment-1"}


def test_every_name_is_known_while_an_entry_cannot_be_read(db: Database) -> None:
    """It might be the name of just that segment."""
    commit(db, "segment-1")
    damage(db, "segment-1", name="x", copy="nonsense")
    assert catalog.known(db, ["segment-1", "orphan"]) == {"segment-1", "orphan"}


def test_thousands_of_names(db: Database) -> None:
    segments = [commit(db, f"s{number}") for number in range(3)]
    many = [f"orphan-{number}" for number in range(10_500)]
    assert catalog.known(db, [*many, "s1"]) == {"s1"}
    catalog.forget(db, many)
    with pytest.raises(errors.StaleSegments):
        catalog.replace(db, [*segments, *map(samples.segment, many)], [])
    with db.read() as connection:
        count = connection.execute(sa.select(sa.func.count()).select_from(tables.segment)).scalar()
    assert count == 3
