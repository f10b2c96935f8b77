"""What waits, what was refused, what is damaged, and who is at work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from gnocchi.indexer import catalog, damage

if TYPE_CHECKING:
    from gnocchi.service import Services


def report(services: Services, details: bool) -> dict[str, Any]:
    """The document of ``GET /v1/status``.

    Besides the published members, ``storage.summary`` holds ``points`` that wait, measures
    ``accepted`` and ``refused`` (by reason) since the database was made, and ``damaged`` objects.

    Raises:
        Unavailable: a backend does not answer.
    """
    services.follow(catalog.state(services.db).sacks)
    backlog = services.incoming.backlog(details=details)
    totals = catalog.totals(services.db)
    storage: dict[str, Any] = {
        "summary": {
            "metrics": backlog.metrics,
            "measures": backlog.items,
            "points": backlog.points,
            "accepted": totals.accepted,
            "refused": {
                "too_old": totals.too_old,
                "unknown_metric": totals.unknown,
                "not_a_number": totals.not_a_number,
            },
            "damaged": damage.count(services.db),
        }
    }
    if backlog.per_metric is not None:
        storage["measures_to_process"] = {
            str(UUID(bytes=raw)): items for raw, items in backlog.per_metric.items()
        }
    members = services.members()
    return {
        "storage": storage,
        "metricd": {
            "processors": None if members is None else sorted(members),
            "statistics": members or {},
        },
    }


def backlog(services: Services) -> tuple[int, int]:
    """How many metrics have measures waiting, at the most, and how many items wait."""
    services.follow(catalog.state(services.db).sacks)
    waiting = services.incoming.backlog()
    return waiting.metrics, waiting.items
