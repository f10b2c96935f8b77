"""Evaluating an expression over series of several metrics, for one group of them or for many.

Who may see which metric has been decided before; what a result looks like is decided later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gnocchi import errors
from gnocchi.engine import groups as groups_
from gnocchi.engine.read import Series
from gnocchi.series import expression as expressions
from gnocchi.series import table as tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from gnocchi.engine.groups import Group, Select
    from gnocchi.model import Metric
    from gnocchi.series.expression import Expression, Result
    from gnocchi.series.table import Fill, Table
    from gnocchi.service import Services


class Reference(NamedTuple):
    """A series: the aggregates of one method of a metric.

    name: what errors call the metric. resource_id: of the resource through which it was found.
    """

    metric: Metric
    method: str
    name: str
    resource_id: UUID | None

    def __hash__(self) -> int:
        # Otherwise the metric would be hashed with all of its archive policy.
        return hash((self.metric.id, self.method))


class Answer(NamedTuple):
    """What an expression is worth; one of both is None. Coarsest granularity first.

    by_reference: in the order of the references; an empty list for those without points.
    """

    aggregated: list[Series] | None
    by_reference: dict[Reference, list[Series]] | None


class Limits(NamedTuple):
    """What one call may use: number of series, and of values (series times timestamps)."""

    references: int
    cells: int


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of every group; see `evaluate_groups`."""

    expression: Expression
    start: int | None
    stop: int | None
    fill: Fill | None
    needed_overlap: float


def evaluate(
    services: Services,
    expression: Expression,
    references: Sequence[Reference],
    select: Select,
    *,
    start: int | None,
    stop: int | None,
    granularity: int | None,
    fill: Fill | None,
    needed_overlap: float,
    limits: Limits,
) -> Answer:
    """Evaluate an expression over one group of series; see `evaluate_groups`."""
    [answer] = evaluate_groups(
        services,
        expression,
        [(references, select)],
        start=start,
        stop=stop,
        granularity=granularity,
        fill=fill,
        needed_overlap=needed_overlap,
        limits=limits,
    )
    return answer


def evaluate_groups(
    services: Services,
    expression: Expression,
    groups: Sequence[tuple[Sequence[Reference], Select]],
    *,
    start: int | None,
    stop: int | None,
    granularity: int | None,
    fill: Fill | None,
    needed_overlap: float,
    limits: Limits,
) -> list[Answer]:
    """Evaluate an expression over each group of series by itself.

    Args:
        groups: the distinct series of each, and which of them (positions) a pair of reference and
            method in the expression stands for.
        start: ns, inclusive, rounded down to each granularity.
        stop: ns, exclusive.
        granularity: ns; None means all that are common to the series of a group.
        fill: what becomes of gaps; None means that the series have to overlap.
        needed_overlap: percentage of a group's timestamps that all its series must have.

    Raises:
        errors.CannotAggregate: no granularity in common or the one asked for is missing, too
            little overlap, operands that do not fit together, or too much of something.
        errors.UnknownAggregation: an archive policy does not keep a method.
        errors.Unavailable: storage or indexer do not answer.
    """
    prepared = groups_.prepare(groups, granularity, limits)
    question = Question(expression, start, stop, fill, needed_overlap)
    answers = [_Collected(group) for group in prepared]
    for number, table in groups_.read_tables(services, prepared, start, stop, limits):
        answers[number].add(computed(question, prepared[number], table), fill)
    return [answer.finish() for answer in answers]


def computed(question: Question, group: Group, table: Table) -> Result:
    """Evaluate an expression over the table of a group; raises CannotAggregate."""
    try:
        if question.fill is None:
            table = tables.overlapping(
                table,
                question.needed_overlap,
                start_given=question.start is not None,
                stop_given=question.stop is not None,
            )
        filled = tables.fill(table, question.fill)
        return expressions.evaluate(question.expression, filled, group.select)
    except (tables.NoOverlap, tables.TooLittleOverlap, expressions.CannotCompute) as e:
        raise errors.CannotAggregate(str(e), _asked(question.expression, group)) from e


def _asked(expression: Expression, group: Group) -> list[list[str]]:
    """Return the series of a group as the caller named them: by pattern, or each metric."""
    if any(one.resource_id is not None for one in group.references):
        return [list(pair) for pair in expressions.references(expression)]
    return [[one.name, one.method] for one in group.references]


class _Collected:
    """The results of one group so far."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._aggregated: list[Series] | None = None
        self._series: dict[int, list[Series]] = {}

    def add(self, result: Result, fill: Fill | None) -> None:
        """Add the result at the next finer granularity."""
        if result.aggregated:
            self._aggregated = self._aggregated or []
            self._aggregated += [shown for _, shown in _shown(result, fill)]
            return
        for row, shown in _shown(result, fill):
            series = self._series.setdefault(self._group.order[int(result.series[row])], [])
            if len(shown.timestamps):
                series.append(shown)

    def finish(self) -> Answer:
        """Return the answer."""
        if self._aggregated is not None:
            return Answer(self._aggregated, None)
        references = self._group.references
        return Answer(None, {references[one]: self._series[one] for one in sorted(self._series)})


def _shown(result: Result, fill: Fill | None) -> Iterator[tuple[int, Series]]:
    """Return those points that are shown of each row of a result."""
    table = result.table
    if fill is not None and not fill.keeps_everything and np.isfinite(table.values).all():
        fill = None
    for row, values in enumerate(table.values):
        yield row, Series(table.granularity, *tables.drop(table.timestamps, values, fill))
