"""The queue of object stores, on a store in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.incoming import IncomingConformance
from tests.unit.drivers.shelves import Place

if TYPE_CHECKING:
    from collections.abc import Callable


class TestObjectIncoming(IncomingConformance):
    @pytest.fixture
    def new_place(self) -> Callable[[], Place]:
        return Place

    @pytest.fixture
    def place(self) -> Place:
        return Place()
