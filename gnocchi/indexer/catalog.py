"""The catalog: which segments are live and in which order, and the generations of the sacks.

Invariants:

* ``state.catalog`` grows by one with every change of the set of live segments, under a row lock
  that is held until the commit. So sequence numbers become visible in their own order: who sees
  number n sees every change up to n;
* a round is committed only if each of its sacks has the generation the worker began with, and
  moves it by one: of two workers at the same sack, one commits;
* segments are replaced only if all of them are live, and stay listed in ``retired`` until their
  objects have been removed;
* a damaged entry is never taken for another one (see ``entries``).

Objects are not touched here. Sequence: write the object, commit here, only then is it real; and
in the other direction retire it here, remove the object after the grace time, forget it here.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from gnocchi import errors
from gnocchi.indexer import entries, tables
from gnocchi.indexer.entries import Segment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gnocchi.indexer.database import Database

__all__ = [
    "Counters", "Segment", "Snapshot", "State", "change_sacks", "commit_round", "create_sacks",
    "forget", "forget_former_sacks", "former_sacks", "known", "live", "replace", "retired", "sacks",
    "state", "totals",
]  # fmt: skip

LOG = logging.getLogger(__name__)

_segments = tables.segment
_sacks = tables.sack
_retired = tables.retired
_state = tables.state

_CHUNK = 10_000


class State(NamedTuple):
    """The numbers by which a process sees that its copies are out of date."""

    catalog: int
    deletions: int
    policies: int
    links: int = 0
    resource_types: int = 0
    sacks: int = 0


class Counters(NamedTuple):
    """How many measures ended how."""

    accepted: int
    too_old: int
    unknown: int
    not_a_number: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The live segments at one moment.

    Attributes:
        catalog: sequence number of the last change it contains.
        segments: sorted by (``last``, ``low``).
        damaged: names, as far as they can be read, of entries that prove nothing. Rows of such a
            segment are missing from every answer.
        rows: the entries by stored name and checksum, for the next snapshot.
    """

    catalog: int
    segments: tuple[Segment, ...]
    damaged: tuple[str, ...]
    rows: Mapping[tuple[str | bytes, int], Segment] = dataclasses.field(
        repr=False, compare=False, default_factory=dict
    )


# ------------------------------------------------------------------ state

_STATE = "SELECT name, value FROM state"


def state(db: Database) -> State:
    """Return the numbers of one moment: one statement, for every request and round."""
    with db.read() as connection:
        values = {row[0]: row[1] for row in connection.exec_driver_sql(_STATE)}
    return State(**{name: values.get(name, 0) for name in State._fields})


def _next_sequence(connection: sa.Connection) -> int:
    """Move ``state.catalog`` and return its new value; its row stays locked until the commit."""
    is_catalog = _state.c.name == tables.CATALOG
    update = _state.update().where(is_catalog).values(value=_state.c.value + 1)
    if connection.dialect.update_returning:
        moved = connection.execute(update.returning(_state.c.value))
    else:
        connection.execute(update)
        moved = connection.execute(sa.select(_state.c.value).where(is_catalog))
    sequence: int = moved.scalar_one()
    return sequence


# ------------------------------------------------------------------ sacks


def create_sacks(db: Database, number: int) -> None:
    """Create the sacks 0 … ``number`` - 1, unless there are sacks already."""
    _check_number(number)

    def work(connection: sa.Connection) -> None:
        _lock_sacks(connection)
        count: int = connection.execute(sa.select(sa.func.count()).select_from(_sacks)).scalar_one()
        if count == 0:
            connection.execute(_sacks.insert(), _sack_rows(number, generation=0))
        _note(connection, tables.SACKS, count or number)

    db.run(work)


def change_sacks(db: Database, number: int) -> None:
    """Replace all sacks by ``number`` new ones; the sums of the counters stay.

    Every generation becomes higher than all were, so that a worker that began a round of the old
    division cannot commit it. The old number joins `former_sacks`.
    """
    _check_number(number)

    def work(connection: sa.Connection) -> None:
        _lock_sacks(connection)
        count, newest = connection.execute(
            sa.select(sa.func.count(), sa.func.max(_sacks.c.generation)).select_from(_sacks)
        ).one()
        if count == number:
            return
        counters = _totals(connection)
        connection.execute(_sacks.delete())
        rows = _sack_rows(number, generation=0 if newest is None else newest + 1)
        rows[0].update(counters._asdict())
        connection.execute(_sacks.insert(), rows)
        _note(connection, tables.SACKS, number)
        _drop(connection, f"{tables.FORMER_SACKS}{number}")
        if count:
            _note(connection, f"{tables.FORMER_SACKS}{count}", int(time.time()))

    db.run(work)


def former_sacks(db: Database) -> dict[int, int]:
    """Return the numbers of sacks there were before, and when each was given up (s since 1970)."""
    with db.read() as connection:
        rows = connection.exec_driver_sql(_STATE)
        return {
            int(row[0].removeprefix(tables.FORMER_SACKS)): row[1]
            for row in rows
            if row[0].startswith(tables.FORMER_SACKS)
        }


def forget_former_sacks(db: Database, number: int) -> None:
    """Nothing can wait under a former number of sacks any more."""
    db.run(lambda connection: _drop(connection, f"{tables.FORMER_SACKS}{number}"))


def _note(connection: sa.Connection, name: str, value: int) -> None:
    """Set a number of the state, which need not be there yet; for one who holds `_lock_sacks`."""
    _drop(connection, name)
    connection.execute(_state.insert().values(name=name, value=value))


def _drop(connection: sa.Connection, name: str) -> None:
    connection.execute(_state.delete().where(_state.c.name == name))


def sacks(db: Database) -> dict[int, int]:
    """Return the generation of every sack by its number; empty before ``create_sacks``."""
    with db.read() as connection:
        rows = connection.execute(
            sa.select(_sacks.c.number, _sacks.c.generation).order_by(_sacks.c.number)
        )
        return _pairs(rows)


def _pairs(rows: Iterable[Any]) -> dict[int, int]:
    return {row[0]: row[1] for row in rows}


def totals(db: Database) -> Counters:
    """Return the counters of all sacks together."""
    with db.read() as connection:
        return _totals(connection)


def _totals(connection: sa.Connection) -> Counters:
    sums = (sa.func.coalesce(sa.func.sum(_sacks.c[name]), 0) for name in Counters._fields)
    # Sums are of a decimal type on the servers.
    return Counters(*(int(value) for value in connection.execute(sa.select(*sums)).one()))


def _check_number(number: int) -> None:
    if number < 1:
        raise ValueError("there must be at least one sack")


def _lock_sacks(connection: sa.Connection) -> None:
    """Let one transaction at a time change the set of sacks."""
    connection.execute(
        sa.select(_state.c.value).where(_state.c.name == tables.CATALOG).with_for_update()
    )


def _sack_rows(number: int, generation: int) -> list[dict[str, int]]:
    zero = dict.fromkeys(Counters._fields, 0)
    return [{"number": n, "generation": generation, **zero} for n in range(number)]


# ------------------------------------------------------------------ rounds


def commit_round(
    db: Database,
    generations: Mapping[int, int],
    segment: Segment | None,
    counters: Mapping[int, Counters],
) -> Segment | None:
    """Commit one round of some sacks: the point of no return of its measures.

    1. Move the generation of every sack by one and add its counters, in one statement that
       changes only sacks of the expected generations.
    2. Take the next sequence number.
    3. Insert the segment under it.

    A round that writes no rows passes no segment and does only the first step.

    Args:
        generations: the generation of each sack when the round began.
        segment: what was written; its ``first`` and ``last`` are set here.
        counters: what became of the measures of each sack; sacks may be left out.

    Returns:
        The segment with its sequence number.

    Raises:
        errors.StaleGeneration: a sack has another generation. Nothing was committed.
        errors.Unavailable: nothing was committed, unless the connection broke during the commit
            itself; the generations tell.
    """
    if not generations:
        raise ValueError("a round is of at least one sack")
    update = _advance(generations, counters)

    def work(connection: sa.Connection) -> Segment | None:
        if connection.execute(update).rowcount != len(generations):
            raise errors.StaleGeneration(_stale(connection, generations))
        if segment is None:
            return None
        sequence = _next_sequence(connection)
        placed = dataclasses.replace(segment, first=sequence, last=sequence)
        connection.execute(_segments.insert(), entries.to_row(placed))
        return placed

    return db.run(work)


def _advance(generations: Mapping[int, int], counters: Mapping[int, Counters]) -> sa.Update:
    values: dict[str, Any] = {"generation": _sacks.c.generation + 1}
    for name in Counters._fields:
        added = {
            number: getattr(counts, name)
            for number, counts in sorted(counters.items())
            if getattr(counts, name)
        }
        if not added.keys() <= generations.keys():
            raise ValueError("counters of a sack that is not of this round")
        if added:
            column = _sacks.c[name]
            values[name] = column + sa.case(added, value=_sacks.c.number, else_=0)
    expected = (
        sa.and_(_sacks.c.number == number, _sacks.c.generation == generation)
        for number, generation in sorted(generations.items())
    )
    return sa.update(_sacks).where(sa.or_(*expected)).values(values)


def _stale(connection: sa.Connection, generations: Mapping[int, int]) -> list[int]:
    """Name the sacks whose generation is not the given one; called after the update moved some."""
    connection.rollback()
    stored = _pairs(
        connection.execute(
            sa.select(_sacks.c.number, _sacks.c.generation).where(
                _sacks.c.number.in_(list(generations))
            )
        )
    )
    return [number for number, seen in generations.items() if stored.get(number) != seen]


# ------------------------------------------------------------------ live segments


def live(db: Database, previous: Snapshot | None = None) -> Snapshot:
    """Return the live segments of one moment.

    Names and checksums of all entries are read first, and then only the entries that
    ``previous`` does not hold. A damaged half of an entry is logged once a process.
    """
    with db.read(snapshot=True) as connection:
        return _live(db, connection, previous)


def _live(db: Database, connection: sa.Connection, previous: Snapshot | None) -> Snapshot:
    catalog = connection.execute(
        sa.select(_state.c.value).where(_state.c.name == tables.CATALOG)
    ).scalar_one()
    rows: dict[tuple[str | bytes, int], Segment] = {}
    damaged: list[str] = []
    unknown: list[str | bytes] = []
    if previous is not None and previous.rows:
        for name, crc in connection.execute(sa.select(_stored_name(db), _segments.c.crc)):
            segment = previous.rows.get((name, crc))
            if segment is None:
                unknown.append(name)
            else:
                rows[name, crc] = segment
    else:
        unknown = [*connection.execute(sa.select(_stored_name(db))).scalars()]
    for row in _read_rows(db, connection, unknown, everything=not rows):
        entry = entries.from_row(row)
        shown = row.name if isinstance(row.name, str) else row.name.decode(errors="replace")
        if entry.fault is not None:
            _report(db, shown, entry)
        if entry.segment is None:
            damaged.append(shown)
        else:
            rows[row.name, row.crc] = entry.segment
    segments = tuple(sorted(rows.values(), key=lambda s: (s.last, s.low, s.name)))
    return Snapshot(catalog, segments, tuple(sorted(damaged)), rows)


def _stored_name(db: Database) -> sa.ColumnElement[Any]:
    return _bytes_on_sqlite(db, _segments.c.name)


def _bytes_on_sqlite(db: Database, column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """Read text as bytes from SQLite, whose pages have no checksum, so that it may be damaged."""
    if db.sqlite:
        return sa.cast(column, sa.LargeBinary).label(column.name)
    return column


def _read_rows(
    db: Database, connection: sa.Connection, names: list[str | bytes], *, everything: bool
) -> Iterator[sa.Row[Any]]:
    columns = [
        _bytes_on_sqlite(db, column) if column.name in ("name", "copy") else column
        for column in _segments.c
    ]
    query = sa.select(*columns)
    if everything:
        yield from connection.execute(query)
        return
    for chunk in _chunks(names):
        yield from connection.execute(query.where(_has_name(db, chunk)))


def _has_name(db: Database, names: Sequence[str | bytes]) -> sa.ColumnElement[bool]:
    """Match stored names, which on SQLite are bytes and perhaps no text."""
    texts, others = [], []
    for name in names:
        try:
            texts.append(name.decode() if isinstance(name, bytes) else name)
        except UnicodeDecodeError:
            others.append(name)
    # Only the first condition can use the index.
    matches = _segments.c.name.in_(texts)
    return sa.or_(matches, _stored_name(db).in_(others)) if others else matches


def _report(db: Database, name: str, entry: entries.Entry) -> None:
    reported: set[tuple[str, str | None]] = db.memory.setdefault("damaged entries", set())
    if (name, entry.fault) not in reported:
        reported.add((name, entry.fault))
        LOG.error(
            "Catalog entry %s: %s; %s",
            name,
            entry.fault,
            "the rows of that segment cannot be read"
            if entry.segment is None
            else f"the other half is used, of segment {entry.segment.name}",
        )


def replace(
    db: Database,
    old: Sequence[Segment],
    new: Sequence[Segment],
    *,
    now: float | None = None,
) -> None:
    """Put ``new`` in the place of ``old`` at once, as compaction does.

    Args:
        old: live segments; they are listed by ``retired`` from now on.
        new: segments whose objects have been written, sequence numbers included.
        now: the time of it, in seconds since 1970; default the clock.

    Raises:
        errors.StaleSegments: one of ``old`` is not live any more. Nothing was changed.
    """
    names = [segment.name for segment in old]
    when = int((time.time() if now is None else now) * 1e9)

    def work(connection: sa.Connection) -> None:
        _delete(db, connection, names)
        sequence = _next_sequence(connection)
        if names:
            connection.execute(
                _retired.insert(),
                [{"name": n, "retired_at": when, "catalog": sequence} for n in names],
            )
        if new:
            connection.execute(_segments.insert(), [entries.to_row(segment) for segment in new])

    db.run(work)


def _delete(db: Database, connection: sa.Connection, names: Sequence[str]) -> None:
    deleted = sum(
        connection.execute(_segments.delete().where(_segments.c.name.in_(chunk))).rowcount
        for chunk in _chunks(names)
    )
    if deleted == len(names):
        return
    # Some are gone; or their stored names are damaged, which only their copies tell.
    left = {
        segment.name: stored
        for (stored, _crc), segment in _live(db, connection, None).rows.items()
        if segment.name in names
    }
    for stored in left.values():
        deleted += connection.execute(_segments.delete().where(_has_name(db, [stored]))).rowcount
    if deleted != len(names):
        connection.rollback()
        present = {segment.name for segment in _live(db, connection, None).segments}
        raise errors.StaleSegments(name for name in names if name not in present)


def retired(db: Database, before: float) -> list[str]:
    """Return the names of segments replaced before that time (seconds since 1970), oldest first."""
    with db.read() as connection:
        return list(
            connection.execute(
                sa.select(_retired.c.name)
                .where(_retired.c.retired_at < int(before * 1e9))
                .order_by(_retired.c.retired_at, _retired.c.name)
            ).scalars()
        )


def forget(db: Database, names: Iterable[str]) -> None:
    """Take names off the list of retired segments, their objects having been removed."""
    wanted = list(names)

    def work(connection: sa.Connection) -> None:
        for chunk in _chunks(wanted):
            connection.execute(_retired.delete().where(_retired.c.name.in_(chunk)))

    if wanted:
        db.run(work)


def known(db: Database, names: Iterable[str]) -> set[str]:
    """Return those of the names that belong to a live or a retired segment.

    Objects of other names are removed by the janitor, so in doubt a name is known: while an entry
    cannot be read at all, any name may be its.
    """
    wanted = set(names)
    with db.read(snapshot=True) as connection:
        found: set[str] = set()
        for chunk in _chunks(sorted(wanted)):
            found.update(
                connection.execute(
                    sa.union_all(
                        sa.select(_segments.c.name).where(_segments.c.name.in_(chunk)),
                        sa.select(_retired.c.name).where(_retired.c.name.in_(chunk)),
                    )
                ).scalars()
            )
        if found >= wanted:
            return found
        snapshot = _live(db, connection, None)
    if snapshot.damaged:
        return wanted
    return found | (wanted & {segment.name for segment in snapshot.segments})


def _chunks(values: Sequence[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(values), _CHUNK):
        yield list(values[start : start + _CHUNK])
