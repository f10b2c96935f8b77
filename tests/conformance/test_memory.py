"""The memory driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest

from gnocchi.drivers.memory import MemoryIncoming, MemoryStorage
from tests.conformance.incoming import IncomingConformance
from tests.conformance.models import SACKS
from tests.conformance.storage import StorageConformance

if TYPE_CHECKING:
    from collections.abc import Callable


class StoragePlace:
    """A dict; all clients are one."""

    def __init__(self) -> None:
        self.storage = MemoryStorage()

    def open(self) -> MemoryStorage:
        return self.storage


class IncomingPlace:
    """Dicts; all clients are one."""

    def __init__(self) -> None:
        self.incoming: MemoryIncoming | None = None

    def open(self, sacks: int = SACKS) -> MemoryIncoming:
        if self.incoming is None:
            self.incoming = MemoryIncoming(None, sacks)
        return self.incoming

    def objects(self) -> list[bytes]:
        return [data for queue in self.open().queues.values() for data in queue.values()]

    def change(self, change: Callable[[bytes], bytes]) -> None:
        for queue in self.open().queues.values():
            for name, data in queue.items():
                queue[name] = change(data)

    def kept(self) -> set[bytes]:
        return set(self.open().damaged.values())


class TestMemoryStorage(StorageConformance):
    @pytest.fixture
    def new_place(self) -> Callable[[], StoragePlace]:
        return StoragePlace

    @pytest.fixture
    def place(self) -> StoragePlace:
        return StoragePlace()


class TestMemoryIncoming(IncomingConformance):
    may_fail: ClassVar[bool] = False

    @pytest.fixture
    def new_place(self) -> Callable[[], IncomingPlace]:
        return IncomingPlace

    @pytest.fixture
    def place(self) -> IncomingPlace:
        return IncomingPlace()
