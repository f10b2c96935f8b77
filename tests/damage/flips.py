"""Bits that flip, and what may come of it."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from gnocchi.engine import status
from gnocchi.indexer import damage, tables
from gnocchi.service import Services

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


def flipped(data: bytes, bit: int) -> bytes:
    """The data with one other bit."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def restarted(services: Services) -> Services:
    """Services of a new process over the same stores: nothing is cached."""
    services.db.memory.clear()
    return Services(None, services.db, services.storage, services.incoming)  # type: ignore[arg-type]


def reported(services: Services) -> frozenset[str]:
    """Names of what is damaged; the status counts them all."""
    names = damage.names(services.db)
    assert status.report(services, False)["storage"]["summary"]["damaged"] == len(names)
    return names


def forget(services: Services) -> None:
    """As if no damage had ever been found."""
    with services.db.write() as connection:
        connection.execute(tables.damage.delete())


@contextlib.contextmanager
def errors_logged(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Messages of errors that are logged meanwhile; empty before the end."""
    caplog.clear()
    messages: list[str] = []
    with caplog.at_level(logging.ERROR):
        yield messages
    messages += [record.getMessage() for record in caplog.records]
    caplog.clear()
