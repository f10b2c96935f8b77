"""Values that the tests of the indexer store."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from gnocchi.archive_policy import ArchivePolicy, Change, Definition
from gnocchi.indexer import policies, resources
from gnocchi.indexer.catalog import Segment
from gnocchi.model import Metric, Resource

if TYPE_CHECKING:
    from gnocchi.indexer.database import Database

SECOND = 10**9


def policy(name: str = "low", **changes: Any) -> ArchivePolicy:
    """A policy with everything that has to survive storing."""
    values: dict[str, Any] = {
        "back_window": 3,
        "definition": (
            Definition(300 * SECOND, 10, 3000 * SECOND),
            Definition(333_333_333, None, None),
        ),
        "aggregation_methods": frozenset({"mean", "rate:95pct"}),
        "changes": (Change(2**62, 1, ((300 * SECOND, 600 * SECOND), (333_333_333, None))),),
    }
    return ArchivePolicy(name=name, **(values | changes))


def stored_policy(db: Database, name: str = "low") -> ArchivePolicy:
    """A policy that the database holds."""
    made = policy(name)
    policies.create(db, made)
    return made


def metric(archive_policy: ArchivePolicy, **changes: Any) -> Metric:
    """A metric of a random id."""
    values: dict[str, Any] = {
        "id": uuid.uuid4(),
        "creator": "user:project",
        "name": "cpu",
        "unit": "s",
        "resource_id": None,
    }
    return Metric(archive_policy=archive_policy, **(values | changes))


def resource(**changes: Any) -> Resource:
    """A generic resource of a random id; times are microseconds with many digits."""
    values: dict[str, Any] = {
        "id": uuid.uuid4(),
        "type": "generic",
        "creator": "user:project",
        "original_resource_id": "web 01",
        "user_id": None,
        "project_id": None,
        "started_at": 1_700_000_000_123_456,
        "ended_at": None,
        "revision_start": 1_700_000_001_654_321,
    }
    return Resource(**(values | changes))


def stored_resource(db: Database, **changes: Any) -> Resource:
    """A resource that the database holds."""
    return resources.create(db, resource(**changes))


def segment(name: str = "segment-1", **changes: Any) -> Segment:
    """A segment whose numbers use many of their bits, so that none can be lost unnoticed."""
    values: dict[str, Any] = {
        "first": 5,
        "last": 9,
        "low": 0x80000000,
        "high": 0xFFFFFFFF,
        "start": 1_700_000_000_123_456_789,
        "stop": 1_800_000_000_987_654_321,
        "rows": 5000,
        "size": 123_456,
        "tail": 120_000,
        "tail_crc": 0xDEADBEEF,
        "deletions": 17,
    }
    return Segment(name=name, **(values | changes))
