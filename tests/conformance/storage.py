"""What every `Storage` has to do."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, ClassVar, Protocol

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from gnocchi.storage import NoSuchObject
from tests.conformance import models
from tests.conformance.models import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from gnocchi.storage import Storage

NAMES = ("0", "ab", "20261121T064452-00ff.parquet", "20261121T064452-11ff.parquet")


class Place(Protocol):
    """Where a driver keeps its objects during a test; the driver's test file provides it."""

    def open(self) -> Storage:
        """A client of the place, as a process of its own would have."""


class StorageConformance:
    """Subclasses give a fixture ``place``, a new one for each test."""

    #: How many sequences of calls to try; fewer where calls are slow.
    examples: ClassVar[int] = models.SETTINGS.max_examples
    #: What large numbers of objects are divided by, where each takes long.
    fewer: ClassVar[int] = 1

    @pytest.fixture
    def storage(self, place: Place) -> Storage:
        """A client, upgraded."""
        storage = place.open()
        storage.upgrade()
        return storage

    # ------------------------------------------------------------ objects

    @pytest.mark.parametrize("name", NAMES)
    def test_object_reads_as_it_was_put(self, storage: Storage, name: str) -> None:
        storage.put(name, b"some bytes")
        assert storage.read(name, 0, 10) == b"some bytes"

    def test_every_range_of_an_object_reads_as_a_slice(self, storage: Storage) -> None:
        storage.put("range", b"01234")
        for offset, length in itertools.product(range(7), range(7)):
            assert storage.read("range", offset, length) == b"01234"[offset : offset + length]

    def test_view_is_stored_like_the_bytes_it_shows(self, storage: Storage) -> None:
        storage.put("view", memoryview(b"-some-")[1:5])
        storage.put("ints", memoryview(b"01234567").cast("I"))
        assert storage.read("view", 0, 100) == b"some"
        assert storage.read("ints", 0, 100) == b"01234567"

    def test_empty_object_exists(self, storage: Storage) -> None:
        storage.put("empty", b"")
        assert storage.read("empty", 0, 10) == b""
        assert names(storage) == ["empty"]

    def test_large_object_is_whole(self, storage: Storage) -> None:
        data = bytes(range(256)) * (20 << 12)  # 20 MiB
        storage.put("large", data)
        assert storage.read("large", 0, len(data)) == data
        assert storage.read("large", len(data) - 300, 300) == data[-300:]
        assert storage.read("large", (10 << 20) + 3, 5) == bytes([3, 4, 5, 6, 7])

    def test_objects_are_there_for_other_clients(self, place: Place, storage: Storage) -> None:
        storage.put("shared", b"x")
        assert place.open().read("shared", 0, 1) == b"x"

    def test_client_may_be_told_to_give_up_earlier(self, place: Place, storage: Storage) -> None:
        other = place.open()
        other.give_up_after(60.0)
        other.put("shared", b"x")
        assert storage.read("shared", 0, 1) == other.read("shared", 0, 1) == b"x"

    def test_upgrade_again_keeps_everything(self, place: Place, storage: Storage) -> None:
        storage.put("kept", b"x")
        storage.upgrade()
        place.open().upgrade()
        assert storage.read("kept", 0, 1) == b"x"
        assert names(storage) == ["kept"]

    def test_two_may_upgrade_at_once(self, place: Place) -> None:
        both([place.open().upgrade, place.open().upgrade])
        storage = place.open()
        storage.put("x", b"x")
        assert names(storage) == ["x"]

    # ------------------------------------------------------------ absence

    def test_absent_object_is_not_empty(self, storage: Storage) -> None:
        with pytest.raises(NoSuchObject) as caught:
            storage.read("absent", 0, 10)
        assert caught.value.name == "absent"

    def test_deleted_object_is_absent(self, storage: Storage) -> None:
        storage.put("gone", b"x")
        assert storage.read("gone", 0, 1) == b"x"
        storage.delete(["gone"])
        with pytest.raises(NoSuchObject):
            storage.read("gone", 0, 1)
        assert names(storage) == []

    def test_delete_of_what_is_absent_is_no_error(self, storage: Storage) -> None:
        storage.put("there", b"x")
        storage.delete(name for name in ("absent", "there", "absent too"))
        storage.delete(["there"])
        storage.delete([])
        assert names(storage) == []

    def test_delete_leaves_other_objects(self, storage: Storage) -> None:
        for name in ("a1", "b1", "a2"):
            storage.put(name, name.encode())
        storage.delete(["a1"])
        assert [storage.read(name, 0, 9) for name in ("b1", "a2")] == [b"b1", b"a2"]

    # ------------------------------------------------------------ listing

    def test_new_place_lists_nothing(self, storage: Storage) -> None:
        assert names(storage) == []

    def test_every_object_is_listed_once(self, storage: Storage) -> None:
        wanted = sorted(f"object-{number:04x}.parquet" for number in range(1500 // self.fewer))
        for name in wanted:
            storage.put(name, b"x")
        assert names(storage) == wanted
        storage.delete(wanted[::2])
        assert names(storage) == wanted[1::2]

    def test_age_counts_from_when_it_was_put(self, storage: Storage) -> None:
        before = time.time()
        storage.put("new", b"x")
        (stored,) = storage.list()
        # file systems and servers round times
        assert -1.0 < stored.age_s < time.time() - before + 1.0

    def test_objects_that_stay_are_in_every_listing(self, storage: Storage) -> None:
        """While others come and go."""
        staying = {f"staying-{number:03x}" for number in range(300 // self.fewer)}
        for name in staying:
            storage.put(name, b"x")

        def come_and_go() -> None:
            for number in range(300 // self.fewer):
                storage.put(f"going-{number:03x}", b"x")
                storage.delete([f"going-{number - 3:03x}"])

        def list_on() -> None:
            while writer.is_alive():
                listed = [stored.name for stored in storage.list()]
                assert staying <= set(listed)

        writer = threading.Thread(target=come_and_go)
        writer.start()
        try:
            list_on()
        finally:
            writer.join()

    def test_tidy_touches_no_object(self, storage: Storage) -> None:
        storage.put("kept", b"x")
        assert storage.tidy(-1.0) == 0
        assert storage.read("kept", 0, 1) == b"x"

    # ------------------------------------------------------------ several at once

    def test_writers_at_once_do_not_disturb_one_another(self, place: Place) -> None:
        place.open().upgrade()

        def write(writer: int) -> None:
            storage = place.open()
            for number in range(50):
                storage.put(f"{writer}-{number:02x}", f"{writer} {number}".encode() * 100)

        both([lambda writer=writer: write(writer) for writer in range(4)])  # type: ignore[misc]
        storage = place.open()
        for writer, number in itertools.product(range(4), range(50)):
            expected = f"{writer} {number}".encode() * 100
            assert storage.read(f"{writer}-{number:02x}", 0, 10_000) == expected

    def test_object_is_seen_whole_or_not_at_all(self, place: Place, storage: Storage) -> None:
        data = b"z" * (1 << 20)

        def write() -> None:
            for number in range(40):
                storage.put(f"object-{number:02x}", data)

        def read() -> None:
            reader = place.open()
            for number in range(40):
                found = b""
                while not found:
                    may_come = writer.is_alive()
                    try:
                        found = reader.read(f"object-{number:02x}", 0, 2 << 20)
                    except NoSuchObject:
                        assert may_come
                assert found == data

        writer = threading.Thread(target=write)
        writer.start()
        try:
            read()
        finally:
            writer.join()

    def test_object_that_another_deletes_is_whole_or_absent(
        self, place: Place, storage: Storage
    ) -> None:
        data = bytes(range(256)) * 16
        for number in range(200 // self.fewer):
            storage.put(f"{number:03x}", data)

        def delete() -> None:
            other = place.open()
            for number in range(200 // self.fewer):
                other.delete([f"{number:03x}"])

        def read() -> None:
            for number, offset in itertools.product(range(200 // self.fewer), (0, 2048)):
                try:
                    assert storage.read(f"{number:03x}", offset, 2048) == data[offset:][:2048]
                except NoSuchObject:
                    continue

        both([delete, read])

    # ------------------------------------------------------------ anything, in any order

    def test_any_sequence_of_calls_equals_a_dict(self, new_place: Callable[[], Place]) -> None:
        run_state_machine_as_test(
            lambda: models.Objects(new_place()),
            settings=settings(models.SETTINGS, max_examples=self.examples),
        )


def both(functions: list[Callable[[], None]]) -> None:
    """Run functions at the same time; raise what the first of them to fail raised."""
    failures: list[BaseException] = []
    start = threading.Barrier(len(functions))

    def run(function: Callable[[], None]) -> None:
        try:
            start.wait(10)
            function()
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
