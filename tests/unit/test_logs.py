"""URLs in the log."""

from __future__ import annotations

import pytest

from gnocchi.logs import hide_credentials


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host:5432/name", "postgresql://me:***@host:5432/name"),
        ("mysql+pymysql://me:se@cr:et/@host/name", "mysql+pymysql://me:***@host/name"),
        ("redis://:secret@host", "redis://:***@host"),
        ("mysql://do/main:secret@host/name", "mysql://do/main:***@host/name"),
        ("mysql://me:sec?ret@host/name", "mysql://me:***@host/name"),
        ("postgresql://host/name?password=secret", "postgresql://host/name?***"),
        ("postgresql://me@host/name", "postgresql://me@host/name"),
        ("sqlite:////data/a:b@c/indexer.sqlite", "sqlite:////data/a:b@c/indexer.sqlite"),
    ],
)
def test_no_secret_is_shown(url: str, shown: str) -> None:
    assert hide_credentials(url) == shown
