"""Taking measures in: every way into the system ends here, as columns."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from gnocchi import errors
from gnocchi.indexer import catalog
from gnocchi.segments.batch import Points

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from gnocchi.indexer.catalog import State
    from gnocchi.service import Services


def state(services: Services) -> State:
    """The state of the catalog, whose number of sacks is followed from now on."""
    current = catalog.state(services.db)
    services.follow(current.sacks)
    return current


def known(services: Services, ids: Sequence[bytes]) -> dict[bytes, str | None]:
    """The creators of metrics by raw id.

    Raises:
        UnknownMetrics: some do not exist, or have been deleted.
    """
    found = services.identities.of(ids, state(services))
    try:
        return {i: found[i][0] for i in ids}
    except KeyError:
        raise errors.UnknownMetrics(UUID(bytes=i) for i in ids if i not in found) from None


def add(
    services: Services,
    ids: np.ndarray,
    counts: np.ndarray,
    timestamps: np.ndarray,
    values: np.ndarray,
) -> None:
    """Accept points; they are durable when this returns.

    Args:
        ids: ``(m,)`` V16, raw UUIDs of metrics that exist; one may appear more than once.
        counts: ``(m,)`` int64, how many points each has; those of one metric are consecutive.
        timestamps, values: ``(n,)`` int64 ns and float64, in order of arrival.

    Raises:
        Unavailable: the points may have been stored or not; sending them again is harmless.
    """
    if len(timestamps):
        services.incoming.add(Points(ids, counts, timestamps, values))
