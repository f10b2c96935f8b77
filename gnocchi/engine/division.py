"""Changing the number of sacks, while measures arrive and are processed.

Sacks are ranges of the hash space, so nothing that is stored depends on their number; only what
waits lies under it. The catalog says which number holds. Every process reads that with the state
it reads anyway, and follows; what a process that was late wrote under a former number is moved.

Invariants: a round of one division cannot commit once another holds, since the generations have
moved beyond it. Measures are removed from a former division only after they have been added to the
present one; being added twice does no harm. Each step may be repeated, by several hosts at once.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from gnocchi import errors
from gnocchi.indexer import catalog

if TYPE_CHECKING:
    from gnocchi.incoming import Incoming
    from gnocchi.service import Services

LOG = logging.getLogger(__name__)

#: A process that has not followed for so long does not exist any more.
FORGET_S = 86400


def change(services: Services, number: int) -> None:
    """Divide what arrives from now on into ``number`` sacks.

    1. Refuse while measures wait: there may be any amount of them.
    2. Make the new division in the incoming store, so that whoever follows finds it there.
    3. Let the catalog say that it holds, which stops rounds of the old one.
    4. Move what arrived under the old one meanwhile.

    Called again with the same number it does what an interrupted call did not.

    Raises:
        Misconfigured: measures wait; nothing was changed.
        Unavailable: a backend does not answer.
    """
    assert services.divided is not None
    services.follow(catalog.state(services.db).sacks)
    if number != services.sacks:
        items = services.incoming.backlog().items
        if items:
            raise errors.Misconfigured(
                f"{items} measurement bundles wait to be processed: the number of sacks stays "
                f"{services.sacks}. Let gnocchi-metricd process them, then try again"
            )
        services.divided(number).upgrade()
        catalog.change_sacks(services.db, number)
        services.follow(number)
    else:
        services.incoming.upgrade()
    move_stragglers(services)


def move_stragglers(services: Services) -> int:
    """Move measures that wait under former numbers of sacks; return how many points did."""
    if services.divided is None:
        return 0
    moved = 0
    for number, since in catalog.former_sacks(services.db).items():
        if number == services.sacks:
            continue
        try:
            moved += _move(services, services.divided(number))
        except errors.Misconfigured as error:
            # Another incoming store is used by now, in which there never was such a division.
            LOG.debug("Nothing to move from %d sacks: %s", number, error)
        if time.time() - since > FORGET_S:
            catalog.forget_former_sacks(services.db, number)
    if moved:
        LOG.info("Moved %d measures that waited under a former number of sacks", moved)
    return moved


def _move(services: Services, former: Incoming) -> int:
    moved = 0
    while True:
        taken = former.take(range(former.sacks), services.max_points_per_round)
        if not taken.receipt:
            return moved
        for damage in taken.damaged:
            services.damaged(damage.name, damage.reason)
        if len(taken.points):
            services.incoming.add(taken.points)
        former.discard(taken)
        moved += len(taken.points)
