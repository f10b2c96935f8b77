"""Rounds: what waits in some sacks becomes aggregates.

A round, for all sacks that a worker holds at once:

1. read the sacks' generations;
2. take waiting objects, oldest first, up to a bound on points; damaged ones are set aside;
3. look up the metrics: those that do not exist are counted as refused;
4. load raw windows, from the worker's memory if its generation is current, else from the segments;
5. reduce, a portion of the metrics and one archive policy at a time (`gnocchi.series.rollup`);
6. write one segment;
7. commit: compare and swap the generations, count, and name the segment. *Point of no return*;
8. discard what was taken.

A crash before 7 leaves an object that no catalog names, and the queue as it was. A crash between
7 and 8 leaves points that the next round takes again: they fall onto the same keys, or are older
than the back window and already part of the aggregates. No step needs cleaning up by hand.

Locks only save work. Two workers on one sack both read its generation in 1; the second to commit
finds it moved, has changed nothing, and starts over.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gnocchi import errors
from gnocchi.engine.hidden import Hidden
from gnocchi.engine.portions import (
    Group,
    Held,
    Portion,
    by_metric,
    choose,
    divide,
    stretches,
    whole_row_groups,
)
from gnocchi.engine.windows import Window, Windows
from gnocchi.incoming import sack_of
from gnocchi.indexer import catalog
from gnocchi.indexer.catalog import Counters, Segment
from gnocchi.model import hash_of
from gnocchi.segments import segment as segments
from gnocchi.segments.batch import high_bits
from gnocchi.segments.segment import RAW, VALUE, Block
from gnocchi.series.points import NONE
from gnocchi.series.rollup import needed_from, rollup

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gnocchi.engine.reader import Gap
    from gnocchi.incoming import Taken
    from gnocchi.indexer.catalog import State
    from gnocchi.model import Metric
    from gnocchi.segments.batch import Points
    from gnocchi.series.rollup import Rollup
    from gnocchi.service import Services

LOG = logging.getLogger(__name__)

WINDOW_BYTES = 64 << 20
# An object that no catalog names is removed after this time (janitor.py). A commit must not name
# one that could be gone, so a round that took half as long gives up and starts over.
ORPHAN_GRACE_S = 3600.0


@dataclass(slots=True)
class Round:
    """A round between its steps: everything that is needed to commit and to finish it.

    ``ids`` are the metrics that exist, ascending; ``windows`` what is to be kept of each sack whose
    metrics are among them; ``segment`` is None when no row came out.
    """

    sacks: tuple[int, ...]
    generations: dict[int, int]
    taken: Taken
    ids: np.ndarray
    counters: dict[int, Counters]
    windows: dict[int, Window] = field(default_factory=dict)
    segment: Segment | None = None
    put_at: float = 0.0


class Worker:
    """Processes sacks, and keeps raw windows in memory between rounds. One thread at a time.

    ``statistics`` counts, since the start, what the worker did, and the seconds it took.
    """

    def __init__(self, services: Services, window_bytes: int = WINDOW_BYTES) -> None:
        self._services = services
        self._windows = Windows(window_bytes)
        self.statistics: defaultdict[str, float] = defaultdict(float)

    def work(self, sacks: Sequence[int], deadline: float | None = None) -> int:
        """Process what waits in the sacks, round after round.

        Args:
            deadline: `time.monotonic` after which no further round is started.

        Returns:
            How many metrics were processed, each counted once a round.
        """
        done, more = 0, True
        while more:
            metrics, more = self._round(sacks)
            done += metrics
            if deadline is not None and time.monotonic() > deadline:
                break
        return done

    def _round(self, sacks: Sequence[int]) -> tuple[int, bool]:
        """Do one round; return how many metrics it had, and whether more points wait."""
        round_ = self.prepare(sacks)
        if round_ is None:
            return 0, False
        self.commit(round_)
        self.finish(round_)
        return len(round_.ids), round_.taken.more

    # ---------------------------------------------------------------- the steps of a round

    def prepare(self, sacks: Sequence[int]) -> Round | None:
        """Steps 1 to 6; None when nothing waits. Nothing is visible to anybody yet."""
        services, began = self._services, time.monotonic()
        state = catalog.state(services.db)
        everyone = catalog.sacks(services.db)
        if len(everyone) != services.incoming.sacks:
            # Numbers of sacks mean other metrics now; the caller has to follow first.
            raise errors.StaleGeneration(sacks)
        generations = {sack: everyone[sack] for sack in sacks if sack in everyone}
        taken = services.incoming.take(sorted(generations), services.max_points_per_round)
        if not taken.receipt:
            return None
        for damage in taken.damaged:
            services.damaged(damage.name, damage.reason)
        took = self._count_time("raw measures fetch", began, len(taken.points))
        ids, position, groups, counters = self._identify(taken.points, state)
        round_ = Round(tuple(generations), generations, taken, ids, counters)
        if len(ids):
            blocks = self._reduce(round_, position, groups)
            took = self._count_time("aggregated measures compute", took, len(ids))
            if blocks:
                round_.segment = self._write(blocks, state)
                round_.put_at = took
                self._count_time("segment write", took, 1)
        return round_

    def commit(self, round_: Round) -> None:
        """Step 7.

        Raises:
            StaleGeneration: another worker committed first; nothing was changed.
        """
        began = time.monotonic()
        if round_.segment is not None and began - round_.put_at > ORPHAN_GRACE_S / 2:
            raise errors.StaleGeneration(round_.sacks)
        try:
            catalog.commit_round(
                self._services.db, round_.generations, round_.segment, round_.counters
            )
        except errors.StaleGeneration:
            if round_.segment is not None:
                self._services.storage.delete([round_.segment.name])
            raise
        for sack, window in round_.windows.items():
            self._windows.keep(sack, round_.generations[sack] + 1, window)
        for sack in round_.generations.keys() - round_.windows.keys():
            before = round_.generations[sack]
            self._windows.moved(sack, before, before + 1)
        self.statistics["processed measures"] += sum(c.accepted for c in round_.counters.values())
        self._count_time("commit", began, 1)

    def finish(self, round_: Round) -> None:
        """Step 8."""
        began = time.monotonic()
        self._services.incoming.discard(round_.taken)
        self._count_time("raw measures discard", began, len(round_.taken.receipt))

    def _count_time(self, what: str, began: float, count: int) -> float:
        now = time.monotonic()
        self.statistics[what] += count
        self.statistics[f"{what} time"] += now - began
        return now

    # ---------------------------------------------------------------- 3: which metrics

    def _identify(
        self, points: Points, state: State
    ) -> tuple[np.ndarray, np.ndarray, list[Group], dict[int, Counters]]:
        """Find the metrics that exist and their policies.

        Returns:
            ids: ``(m,)`` those that exist, ascending. position: for each entry of
            ``points.ids`` its metric's position in ``ids``, -1 for those that do not exist.
            groups: the metrics by archive policy. counters: by sack, with refusals only.
        """
        services = self._services
        distinct, inverse = np.unique(points.ids, return_inverse=True)
        raw = distinct.tolist()
        known = services.identities.of(raw, state)
        policies = services.policies.by_name(state)
        names = [known[i][1] if i in known else None for i in raw]
        exists = np.array([name in policies for name in names], bool)
        number = np.cumsum(exists) - 1
        number[~exists] = -1
        codes: dict[str, int] = {}
        code = np.array(
            [codes.setdefault(name, len(codes)) for name in names if name in policies], np.int64
        )
        groups = [
            Group(policies[name], np.flatnonzero(code == c) if len(codes) > 1 else _all(code))
            for name, c in codes.items()
        ]
        position = number[inverse]
        return distinct[exists], position, groups, self._unknown(points, position)

    def _unknown(self, points: Points, position: np.ndarray) -> dict[int, Counters]:
        lost = position < 0
        if not lost.any():
            return {}
        sacks = sack_of(high_bits(points.ids[lost]).astype(np.int64), self._services.incoming.sacks)
        counts = np.bincount(sacks, weights=points.counts[lost])
        return {int(sack): Counters(0, 0, int(counts[sack]), 0) for sack in np.flatnonzero(counts)}

    # ---------------------------------------------------------------- 4 and 5: reduce

    def _reduce(
        self, round_: Round, position: np.ndarray, groups: list[Group]
    ) -> dict[int, list[Block]]:
        """Compute what has to be written: blocks by granularity, in order of their metrics."""
        ids = round_.ids
        new = _of_known_metrics(round_.taken.points, position)
        sack = sack_of(high_bits(ids).astype(np.int64), self._services.incoming.sacks)
        held = Held.of(self._windows, ids, sack, round_.generations)
        blocks: dict[int, list[Block]] = {}
        accounts = np.zeros((3, len(ids)), np.int64)
        for metrics in divide(held.counts() + np.bincount(new[0], minlength=len(ids))):
            portion, own = choose(metrics, ids, groups, new)
            window = self._reduce_portion(portion, own, held, accounts[:, metrics], blocks)
            round_.windows.update(held.replace(metrics, window))
        self._count(round_, sack, accounts)
        return blocks

    def _reduce_portion(
        self,
        portion: Portion,
        new: tuple[np.ndarray, np.ndarray, np.ndarray],
        held: Held,
        accounts: np.ndarray,
        blocks: dict[int, list[Block]],
    ) -> Window:
        """Reduce some metrics: add to ``blocks``, fill in ``accounts``, return their windows."""
        ids = portion.ids
        known, blind = self._known(portion, held, new)
        hidden = Hidden.of(blind, known, new[0], new[1])
        parts: dict[int, list[Block]] = {}
        windows: list[Window] = []
        for group in portion.groups:
            result = self._roll_up(group, len(ids), known, new)
            for granularity, rows in result.aggregates.items():
                block = Block(
                    granularity, ids, group.metrics[rows.index], rows.timestamps, rows.columns
                )
                parts.setdefault(granularity, []).append(hidden.remove_from(block))
            index, at, worth = result.raw
            parts.setdefault(RAW, []).append(
                Block(RAW, ids, group.metrics[index], at, {VALUE: worth})
            )
            accounts[:, group.metrics] = result.accepted, result.too_old, result.not_a_number
            windows.append(_window_of(ids, group, result, hidden))
        for granularity, several in parts.items():
            block = by_metric(granularity, ids, several)
            if len(block):
                blocks.setdefault(granularity, []).append(block)
        window = Window.concatenate(windows)
        return window if len(windows) == 1 else window.select(np.argsort(window.ids))

    def _known(
        self,
        portion: Portion,
        held: Held,
        new: tuple[np.ndarray, np.ndarray, np.ndarray],
    ) -> tuple[Window, np.ndarray]:
        """The raw points that the metrics of a portion need.

        Returns:
            The window, and for each metric until when damage may hide raw points, else NONE.
        """
        ids = portion.ids
        first_new = np.full(len(ids), np.iinfo(np.int64).max)
        np.minimum.at(first_new, new[0], new[1])
        needed = np.empty(len(ids), np.int64)
        before = np.zeros(len(ids), bool)  # also needs the point before
        for group in portion.groups:
            needed[group.metrics] = needed_from(group.policy, first_new[group.metrics])
            before[group.metrics] = group.policy.has_rate
        window, hit = held.select(portion.metrics, needed)
        blind = np.full(len(ids), NONE)
        if hit.all():
            return window, blind
        missed = np.flatnonzero(~hit)
        gaps: list[Gap] = []
        loaded = self._load(ids[missed], needed[missed], before[missed], gaps)
        for gap in gaps:
            behind = missed[gap.low : gap.high]
            blind[behind] = np.maximum(blind[behind], gap.stop)
        if not hit.any():
            return loaded, blind
        order = np.argsort(np.concatenate([np.flatnonzero(hit), missed]))
        return Window.concatenate([window, loaded]).select(order), blind

    def _load(
        self, ids: np.ndarray, needed: np.ndarray, before: np.ndarray, gaps: list[Gap]
    ) -> Window:
        """Read raw points from the segments: those from ``needed`` on, and the one before."""
        start = None if before.any() else int(needed.min())
        rows = self._services.reader.rows(RAW, ids, [VALUE], start, gaps=gaps)
        index, timestamps = rows.index, rows.timestamps
        keep = timestamps >= needed[index]
        if before.any() and len(index):
            precedes = np.zeros(len(index), bool)
            precedes[:-1] = keep[1:] & (index[1:] == index[:-1])
            last = np.append(index[1:] != index[:-1], True)
            keep |= ~keep & before[index] & (precedes | last)
        index, timestamps = index[keep], timestamps[keep]
        counts = np.bincount(index, minlength=len(ids))
        newest = np.full(len(ids), NONE)
        np.maximum.at(newest, index, timestamps)
        values = rows.columns[VALUE][keep] if VALUE in rows.columns else np.empty(0)
        return Window(ids, newest, needed, counts, timestamps, values)

    def _roll_up(
        self,
        group: Group,
        metrics: int,
        known: Window,
        new: tuple[np.ndarray, np.ndarray, np.ndarray],
    ) -> Rollup:
        count = len(group.metrics)
        if count == metrics:
            chosen = known
            own = new
        else:
            chosen = known.select(group.metrics)
            number = np.full(metrics, -1)
            number[group.metrics] = np.arange(count)
            index = number[new[0]]
            mine = index >= 0
            own = (index[mine], new[1][mine], new[2][mine])
        index = np.repeat(np.arange(count), chosen.counts)
        return rollup(
            group.policy,
            count,
            (index, chosen.timestamps, chosen.values),
            chosen.newest,
            own,
        )

    def _count(self, round_: Round, sack: np.ndarray, accounts: np.ndarray) -> None:
        """Divide the counts among the sacks."""
        for number, metrics in stretches(sack):
            accepted, too_old, not_a_number = accounts[:, metrics].sum(axis=1).tolist()
            unknown = round_.counters.get(number, Counters(0, 0, 0, 0)).unknown
            round_.counters[number] = Counters(accepted, too_old, unknown, not_a_number)

    # ---------------------------------------------------------------- 6: write

    def _write(self, blocks: dict[int, list[Block]], state: State) -> Segment:
        """Write one segment; ``blocks`` is empty afterwards."""
        names = {name for parts in blocks.values() for part in parts for name in part.columns}
        writer = segments.Writer(names)
        for granularity in sorted(blocks):
            for block in whole_row_groups(blocks.pop(granularity)):
                writer.append(block)
        written = writer.close()
        segment = new_segment(written, first=0, last=0, deletions=state.deletions)
        self._services.storage.put(segment.name, written.data)
        return segment


def new_segment(written: segments.Written, *, first: int, last: int, deletions: int) -> Segment:
    """The catalog's entry of a segment that is about to be stored under a new name."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    return Segment(
        name=f"{stamp}-{uuid.uuid4().hex}.parquet",
        first=first,
        last=last,
        low=written.low,
        high=written.high,
        start=written.start,
        stop=written.stop,
        rows=written.rows,
        size=len(written.data),
        tail=written.tail,
        tail_crc=written.tail_crc,
        deletions=deletions,
    )


def _of_known_metrics(
    points: Points, position: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points as (metric, timestamp, value), without those of metrics that do not exist."""
    metric = np.repeat(position, points.counts)
    if (position >= 0).all():
        return metric, points.timestamps, points.values
    exists = metric >= 0
    return metric[exists], points.timestamps[exists], points.values[exists]


def _all(code: np.ndarray) -> np.ndarray:
    return np.arange(len(code))


def _window_of(ids: np.ndarray, group: Group, result: Rollup, hidden: Hidden) -> Window:
    index, timestamps, values = result.window
    return Window(
        ids[group.metrics],
        result.newest,
        hidden.complete_from(result.cache_from, group.metrics),
        np.bincount(index, minlength=len(group.metrics)),
        timestamps,
        values,
    )


# ------------------------------------------------------------------ refresh

_refreshing = threading.Lock()


def refresh(services: Services, metrics: Iterable[Metric], timeout_s: float) -> None:
    """Process what waits in the sacks of some metrics, now and here.

    Raises:
        MetricsLocked: other workers kept committing the same sacks for the whole time-out, or
            more waits than could be processed in that time.
    """
    metrics = list(metrics)
    services.follow(catalog.state(services.db).sacks)
    wanted = {int(sack_of(hash_of(metric.id), services.incoming.sacks)) for metric in metrics}
    end = time.monotonic() + timeout_s
    began = time.monotonic()
    while True:
        # Only what had been accepted when the refresh was asked for. Looking may take a while, so
        # the time since then is taken before: rather too much is processed than too little.
        since = time.monotonic() - began
        waiting = services.incoming.waiting()
        sacks = sorted(sack for sack in wanted if waiting.get(sack, -1.0) >= since)
        if not sacks:
            return
        left = end - time.monotonic()
        if left <= 0 or not _refreshing.acquire(timeout=left):
            raise errors.MetricsLocked(metric.id for metric in metrics)
        try:
            Worker(services).work(sacks, end)
        except errors.StaleGeneration:
            LOG.debug("another worker processes the sacks %s", sacks)
        finally:
            _refreshing.release()
