"""The list of damaged objects."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from gnocchi.indexer import damage

if TYPE_CHECKING:
    from gnocchi.indexer.database import Database


def test_nothing_is_damaged_at_first(database: Database) -> None:
    assert damage.count(database) == 0
    assert damage.names(database) == frozenset()


def test_object_is_noted_once(database: Database) -> None:
    assert damage.report(database, "a", "checksum")
    assert not damage.report(database, "a", "another reason")
    assert damage.report(database, "A", "checksum")
    assert damage.count(database) == 2
    assert damage.names(database) == {"a", "A"}


def test_long_reason_is_cut_rather_than_lost(database: Database) -> None:
    assert damage.report(database, "a", "☃" * 1000)
    assert damage.count(database) == 1


def test_of_reports_at_the_same_time_one_is_the_first(database: Database) -> None:
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda: results.append(damage.report(database, "a", "checksum")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == [False, False, False, True]
