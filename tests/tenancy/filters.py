"""Filters of resource searches: drawn at random, evaluated naively, written as JSON and as text.

A comparison with null is neither true nor false, and ``not`` leaves it so, as in SQL. The one
exception is the API's: ``!=`` with a value also finds what is null.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.tenancy.world import Caller, Resource, resolve, value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

Filter = dict[str, Any]

ORDERINGS = {
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}
#: Other ways to write an operator.
SYNONYMS = {
    "=": ("==", "eq"),
    "!=": ("≠", "ne"),
    "<": ("lt",),
    ">": ("gt",),
    "<=": ("≤", "le"),
    ">=": ("≥", "ge"),
    "and": ("∧",),
    "or": ("∨",),
}
CANONICAL = {other: name for name, others in SYNONYMS.items() for other in others}

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")


# ------------------------------------------------------------------ drawing


@dataclass(frozen=True)
class Values:
    """What fields are compared with.

    Attributes:
        texts: any texts that fields may hold, which are parts of patterns as well.
        ids: texts that resources have been created with, or might have been.
        projects: projects that may have created something.
        users: users that may have.
    """

    texts: Sequence[str]
    ids: Sequence[str]
    projects: Sequence[str]
    users: Sequence[str]


def drawn(random: Random, type_: str, values: Values, depth: int = 2) -> Filter:
    """Draw a filter that is not empty, over the fields of a type."""
    kind = random.random() if depth else 1.0
    if kind < 0.2:
        return {"not": drawn(random, type_, values, depth - 1)}
    if kind < 0.5:
        parts = [drawn(random, type_, values, depth - 1) for _ in range(random.randint(1, 3))]
        return {random.choice(("and", "or", "∧", "∨")): parts}
    return _condition(random, type_, values)


def _condition(random: Random, type_: str, values: Values) -> Filter:
    """Draw a condition about one field."""
    box = type_ == "box"
    equality = random.choice(("=", "!=", "==", "≠", "eq", "ne"))
    ordering = random.choice((*ORDERINGS, "≤", "ge"))
    kind = random.randrange(8 if box else 7)
    if kind == 0:
        return {equality: {"id": random.choice(values.ids)}}
    if kind == 1:
        return {"in": {"id": random.choices(values.ids, k=random.randint(1, 3))}}
    if kind == 2:
        creators = {"project": values.projects, "user": values.users}
        part = random.choice(list(creators))
        return {equality: {f"created_by_{part}_id": random.choice(creators[part])}}
    if kind == 7:
        number = random.randint(-2, 3)
        return random.choice(
            (
                {equality: {"size": random.choice((number, None))}},
                {ordering: {"size": number}},
                {"in": {"size": [number, number + 1]}},
            )
        )
    fields = ("user_id", "project_id", "creator", "original_resource_id", "type")
    field = random.choice((*fields, "host") if box else fields)
    text = random.choice(values.texts)
    if kind == 3:
        return {equality: {field: random.choice((text, None))}}
    if kind == 4:
        return {ordering: {field: text}}
    if kind == 5:
        return {"like": {field: random.choice((text, f"{text}%", "%", "_", "%a%", ""))}}
    return {"in": {field: random.choices(values.texts, k=random.randint(1, 3))}}


# ------------------------------------------------------------------ evaluating


def holds(document: Filter, caller: Caller, resource: Resource, number: int) -> bool | None:
    """Tell whether a version of a resource fulfils a filter; None when that is unknown."""
    ((operator, operand),) = document.items()
    operator = CANONICAL.get(operator, operator)
    if operator == "not":
        inner = holds(operand, caller, resource, number)
        return None if inner is None else not inner
    if operator in ("and", "or"):
        decisive = operator == "or"
        answers = [holds(part, caller, resource, number) for part in operand]
        if decisive in answers:
            return decisive
        return None if None in answers else not decisive
    ((name, wanted),) = operand.items()
    if name == "id":
        wanted = (
            [resolve(text, caller) for text in wanted]
            if isinstance(wanted, list)
            else resolve(wanted, caller)
        )
    if name.startswith("created_by_") and operator in ("=", "!="):
        # These two take patterns whatever the operator.
        matches = compare("like", value(resource, number, name), wanted)
        return matches == (operator == "=")
    return compare(operator, value(resource, number, name), wanted)


def compare(operator: str, actual: Any, wanted: Any) -> bool | None:
    """Compare a field with an operand."""
    if operator == "=" and wanted is None:
        return actual is None
    if operator == "!=":
        return bool(actual != wanted)
    if actual is None:
        return None
    if operator == "=":
        return bool(actual == wanted)
    if operator == "in":
        return actual in wanted
    if operator == "like":
        parts = [{"%": ".*", "_": "."}.get(c, re.escape(c)) for c in wanted]
        return re.fullmatch("".join(parts), actual, re.DOTALL) is not None
    return bool(ORDERINGS[operator](actual, wanted))


# ------------------------------------------------------------------ writing


def as_text(document: Filter) -> str | None:
    """Write a filter in the text form; None for the few that cannot be."""
    ((operator, operand),) = document.items()
    if operator == "not":
        inner = as_text(operand)
        return None if inner is None else f"not ({inner})"
    if operator in ("and", "or", "∧", "∨"):
        parts = [as_text(part) for part in operand]
        if None in parts:
            return None
        return f" {operator} ".join(f"({part})" for part in parts)
    ((name, wanted),) = operand.items()
    assert _NAME.match(name)
    operator = "=" if operator == "==" else operator
    if isinstance(wanted, list):
        return f"{name} in [{', '.join(term(item) for item in wanted)}]"
    return f"{name} {operator} {term(wanted)}"


def term(operand: Any) -> str:
    """Write a value."""
    if operand is None:
        return "null"
    if isinstance(operand, str):
        try:
            return str(uuid.UUID(operand))
        except ValueError:
            return f"'{operand}'"
    return str(operand)
