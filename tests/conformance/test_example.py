"""The driver that the documentation shows does what it says."""

from __future__ import annotations

import importlib.util
import itertools
import pathlib
import sqlite3
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from tests.conformance.incoming import IncomingConformance
from tests.conformance.models import SACKS
from tests.conformance.storage import StorageConformance

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = pathlib.Path(__file__).parents[2] / "doc" / "examples" / "onefile.py"


def _load() -> Any:
    specification = importlib.util.spec_from_file_location("onefile", EXAMPLE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["onefile"] = module
    specification.loader.exec_module(module)
    return module


onefile = _load()


class StoragePlace:
    """A directory."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.conf = SimpleNamespace(file_basepath=str(directory))

    def open(self) -> Any:
        return onefile.OneFileStorage(self.conf)


class IncomingPlace:
    """A directory."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.conf = SimpleNamespace(file_basepath=str(directory))

    def open(self, sacks: int = SACKS) -> Any:
        return onefile.OneFileIncoming(self.conf, sacks)

    def _query(self, statement: str) -> list[Any]:
        connection = sqlite3.connect(self.directory / "gnocchi-objects.sqlite")
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.commit()
            connection.close()

    def objects(self) -> list[bytes]:
        return [data for (data,) in self._query("SELECT data FROM waiting")]

    def change(self, change: Callable[[bytes], bytes]) -> None:
        connection = sqlite3.connect(self.directory / "gnocchi-objects.sqlite")
        for arrival, data in connection.execute("SELECT arrival, data FROM waiting").fetchall():
            connection.execute(
                "UPDATE waiting SET data = ? WHERE arrival = ?", (change(data), arrival)
            )
        connection.commit()
        connection.close()

    def kept(self) -> set[bytes]:
        return {data for (data,) in self._query("SELECT data FROM damaged")}


class TestExampleStorage(StorageConformance):
    @pytest.fixture
    def new_place(self, tmp_path: pathlib.Path) -> Callable[[], StoragePlace]:
        numbers = itertools.count()
        return lambda: StoragePlace(tmp_path / str(next(numbers)))

    @pytest.fixture
    def place(self, tmp_path: pathlib.Path) -> StoragePlace:
        return StoragePlace(tmp_path / "data")


class TestExampleIncoming(IncomingConformance):
    may_fail: ClassVar[bool] = False  # not in a way that a test could stage

    @pytest.fixture
    def new_place(self, tmp_path: pathlib.Path) -> Callable[[], IncomingPlace]:
        numbers = itertools.count()
        return lambda: IncomingPlace(tmp_path / str(next(numbers)))

    @pytest.fixture
    def place(self, tmp_path: pathlib.Path) -> IncomingPlace:
        return IncomingPlace(tmp_path / "data")
