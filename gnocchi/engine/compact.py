"""Compaction: few big segments out of many small ones.

Every merge takes *layers* that are neighbours in sequence, so it never changes an answer: a layer
is what one round wrote, or what one merge made (several segments that divide the hash space). A
merge is due when as many layers of about one size have gathered as the fan-in says; each row is
thus rewritten once per factor of the fan-in by which the data grows. Large merges are done one half
of the hash space at a time, as far as their segments are divided that way already.

No sack lock is needed. Inputs are immutable, and the commit checks that all of them are still live;
if not, another worker merged them, and what was written is an orphan.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gnocchi import errors
from gnocchi.engine.process import new_segment
from gnocchi.indexer import catalog
from gnocchi.segments import merge as merging
from gnocchi.segments import row_groups
from gnocchi.storage import NoSuchObject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from gnocchi.archive_policy import ArchivePolicy
    from gnocchi.indexer.catalog import Segment, State
    from gnocchi.segments.segment import Block, Tail
    from gnocchi.service import Services

LOG = logging.getLogger(__name__)

MAX_SEGMENT = 8 << 20  # bytes of a segment, about
MAX_MERGE = 256 << 20  # bytes of a merge, where its segments allow to divide it
SMALLEST_TIER = 32 << 10  # bytes; layers below it count as equal
HASH_SPACE = 1 << 32


@dataclass(frozen=True, slots=True)
class Layer:
    """Live segments of one sequence range; they do not overlap in hash range."""

    first: int
    last: int
    segments: tuple[Segment, ...]

    @property
    def size(self) -> int:
        return sum(segment.size for segment in self.segments)


def layers(live: Iterable[Segment]) -> list[Layer]:
    """Group segments by sequence range, oldest first."""
    grouped: dict[tuple[int, int], list[Segment]] = {}
    for segment in live:
        grouped.setdefault((segment.first, segment.last), []).append(segment)
    return [
        Layer(first, last, tuple(sorted(grouped[first, last], key=lambda s: s.low)))
        for first, last in sorted(grouped, key=lambda key: (key[1], key[0]))
    ]


def tier(size: int, fan_in: int) -> int:
    """The size class of a layer: one higher for each factor of ``fan_in``."""
    level = 0
    while size >= SMALLEST_TIER:
        size //= fan_in
        level += 1
    return level


def plan(live: Sequence[Segment], fan_in: int, damaged: frozenset[str]) -> list[list[Segment]]:
    """The merges that are due, each a list of segments in order of sequence.

    Damaged segments are never merged, nor is anything merged across them.
    """
    everything = layers(live)
    stretches: list[list[Layer]] = [[]]
    for layer in everything:
        if any(segment.name in damaged for segment in layer.segments):
            stretches.append([])
        else:
            stretches[-1].append(layer)
    for stretch in stretches:
        chosen = _due(stretch, fan_in)
        if chosen:
            return _divide(chosen, 0, HASH_SPACE)
    return []


def _due(stretch: Sequence[Layer], fan_in: int) -> list[Layer]:
    """The neighbours to be merged next, lowest tier first; none if nothing is due.

    As many layers of one tier as the fan-in says, with whatever smaller ones lie between them. Or
    fewer, if the smaller ones between them make it twice as many: else small ones that take turns
    with large ones would pile up until enough large ones have come.
    """
    tiers = [tier(layer.size, fan_in) for layer in stretch]
    for level in sorted(set(tiers)):
        run: list[int] = []
        for position, current in enumerate([*tiers, 1 << 30]):
            if current == level:
                run.append(position)
            elif current > level:
                if len(run) >= fan_in or (run and run[-1] - run[0] >= 2 * fan_in):
                    return list(stretch[run[0] : run[-1] + 1])
                run = []
    return []


def _divide(chosen: Sequence[Layer], low: int, high: int) -> list[list[Segment]]:
    """Merges that together merge the layers within the hash range ``[low, high)``."""
    inside = [
        segment
        for layer in chosen
        for segment in layer.segments
        if segment.low >= low and segment.high < high
    ]
    if len({(segment.first, segment.last) for segment in inside}) < 2:
        return []
    middle = (low + high) // 2
    divided = all(s.high < middle or s.low >= middle for s in inside)
    if sum(segment.size for segment in inside) > MAX_MERGE and divided and high - low > 1:
        return [*_divide(chosen, low, middle), *_divide(chosen, middle, high)]
    return [inside]


class _Source:
    """A segment being merged; its row groups are read once and not kept."""

    def __init__(self, services: Services, segment: Segment) -> None:
        self._services = services
        self.tail: Tail = services.reader.tail(segment)

    def block(self, group: int) -> Block:
        return row_groups.read_group(self._services.storage, self.tail, group)


def run_once(
    services: Services,
    may_merge: Callable[[str], AbstractContextManager[bool]] | None = None,
    fan_in: int | None = None,
) -> int:
    """Do the merges that are due now.

    Args:
        may_merge: entered with a name for each merge before it is done; yields False when
            another worker is at it. It only saves work.

    Returns:
        How many merges were done; call again while it is not 0.
    """
    fan_in = fan_in or services.compaction_fan_in
    state = catalog.state(services.db)
    snapshot = services.reader.snapshot(state.catalog)
    done = 0
    for inputs in plan(snapshot.segments, fan_in, services.damaged_segments()):
        if may_merge is None:
            done += merge(services, inputs, state)
            continue
        with may_merge(f"compaction-{inputs[0].first}-{inputs[0].low}") as allowed:
            if allowed:
                done += merge(services, inputs, state)
    return done


def merge(services: Services, inputs: Sequence[Segment], state: State) -> int:
    """Merge segments that are neighbours in sequence; 1 if it was done, else 0."""
    written: list[Segment] = []
    try:
        sources = [_Source(services, segment) for segment in inputs]
        for part in merging.merge(sources, _policies(services, state), MAX_SEGMENT):
            segment = new_segment(
                part,
                first=min(segment.first for segment in inputs),
                last=max(segment.last for segment in inputs),
                deletions=state.deletions,
            )
            services.storage.put(segment.name, part.data)
            written.append(segment)
        catalog.replace(services.db, inputs, written)
    except errors.CorruptObject as e:
        services.damaged(e.name, str(e.reason))
    except (errors.StaleSegments, NoSuchObject) as e:
        LOG.debug("another worker has merged these segments: %s", e)
    else:
        return 1
    services.storage.delete([segment.name for segment in written])
    return 0


def _policies(
    services: Services, state: State
) -> Callable[[np.ndarray], tuple[np.ndarray, list[ArchivePolicy]]]:
    policies = services.policies.by_name(state)
    chosen = list(policies.values())
    numbers = {policy.name: number for number, policy in enumerate(chosen)}

    def find(ids: np.ndarray) -> tuple[np.ndarray, list[ArchivePolicy]]:
        raw = ids.tolist()
        known = services.identities.of(raw, state)
        codes = np.array(
            [numbers.get(known[i][1], -1) if i in known else -1 for i in raw], np.int64
        )
        used = np.unique(codes[codes >= 0])
        renumbered = np.searchsorted(used, codes)
        return np.where(codes < 0, -1, renumbered), [chosen[number] for number in used.tolist()]

    return find
