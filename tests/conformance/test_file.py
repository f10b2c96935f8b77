"""The file driver."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from gnocchi.drivers.file import FileIncoming, FileStorage
from tests.conformance.incoming import IncomingConformance
from tests.conformance.models import SACKS
from tests.conformance.storage import StorageConformance
from tests.durability.faults import failing

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


class StoragePlace:
    """A directory."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.conf = SimpleNamespace(file_basepath=str(directory), file_sync=False)

    def open(self) -> FileStorage:
        return FileStorage(self.conf)


class IncomingPlace:
    """A directory."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.conf = SimpleNamespace(file_basepath=str(directory), file_sync=False)

    def open(self, sacks: int = SACKS) -> FileIncoming:
        return FileIncoming(self.conf, sacks)

    def _files(self) -> Iterator[pathlib.Path]:
        return (path for path in self.directory.glob("incoming/*/*/*") if path.is_file())

    def objects(self) -> list[bytes]:
        return [path.read_bytes() for path in self._files()]

    def change(self, change: Callable[[bytes], bytes]) -> None:
        for path in self._files():
            path.write_bytes(change(path.read_bytes()))

    def kept(self) -> set[bytes]:
        return {path.read_bytes() for path in self.directory.glob("damaged/*")}

    def failing(self, call: int) -> AbstractContextManager[object]:
        return failing(None, call)


class TestFileStorage(StorageConformance):
    @pytest.fixture
    def new_place(self, tmp_path: pathlib.Path) -> Callable[[], StoragePlace]:
        numbers = itertools.count()
        return lambda: StoragePlace(tmp_path / str(next(numbers)))

    @pytest.fixture
    def place(self, tmp_path: pathlib.Path) -> StoragePlace:
        return StoragePlace(tmp_path / "data")


class TestFileIncoming(IncomingConformance):
    @pytest.fixture
    def new_place(self, tmp_path: pathlib.Path) -> Callable[[], IncomingPlace]:
        numbers = itertools.count()
        return lambda: IncomingPlace(tmp_path / str(next(numbers)))

    @pytest.fixture
    def place(self, tmp_path: pathlib.Path) -> IncomingPlace:
        return IncomingPlace(tmp_path / "data")
