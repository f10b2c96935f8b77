"""The operations that work cell by cell, and every spelling of an operation's name.

An overflow, a division by zero or a root of a negative number has an IEEE result here and is no
accident; who calls these functions keeps numpy from warning about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from gnocchi.series.points import Float64s

    Cellwise = Callable[..., Float64s]


def _compared(comparison: np.ufunc) -> Cellwise:
    def compare(left: Float64s, right: Float64s) -> Float64s:
        result: Float64s = comparison(left, right).astype(np.float64)
        return result

    return compare


def _clip(values: Float64s, low: Float64s, high: Float64s | None = None) -> Float64s:
    bounded: Float64s = np.maximum(values, low)
    return bounded if high is None else np.minimum(bounded, high)


ARITHMETIC: dict[str, Cellwise] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    # numpy's remainder has the sign of the divisor.
    "%": np.mod,
    "**": np.power,
}

COMPARISONS: dict[str, Cellwise] = {
    "=": _compared(np.equal),
    "!=": _compared(np.not_equal),
    "<": _compared(np.less),
    ">": _compared(np.greater),
    "<=": _compared(np.less_equal),
    ">=": _compared(np.greater_equal),
}

#: Function, and the least and the largest number of operands, by name.
CELLWISE: dict[str, tuple[Cellwise, int, int]] = {
    **{name: (function, 2, 2) for name, function in (ARITHMETIC | COMPARISONS).items()},
    # A gap gives way to a number.
    "max": (np.fmax, 2, 2),
    "min": (np.fmin, 2, 2),
    "clip_min": (np.maximum, 2, 2),
    "clip_max": (np.minimum, 2, 2),
    "clip": (_clip, 2, 3),
    "abs": (np.abs, 1, 1),
    "neg": (np.negative, 1, 1),
    "cos": (np.cos, 1, 1),
    "sin": (np.sin, 1, 1),
    "tan": (np.tan, 1, 1),
    "floor": (np.floor, 1, 1),
    "ceil": (np.ceil, 1, 1),
}

_SPELLINGS = {
    "+": "add",
    "-": "sub",
    "*": "× mul",
    "/": "÷ div",
    "%": "mod",
    "**": "^ pow",
    "=": "== eq",
    "!=": "≠ ne",
    "<": "lt",
    ">": "gt",
    "<=": "≤ le",
    ">=": "≥ ge",
    "abs": "absolute",
    "neg": "negative",
}

_SYNONYMS = {synonym: name for name, synonyms in _SPELLINGS.items() for synonym in synonyms.split()}


def canonical(name: str) -> str:
    """Return the name under which an operation is listed; other texts stay what they are."""
    return _SYNONYMS.get(name, name)
