"""Forgetting, in the child of a fork, what belongs to its parent: threads, locks, connections."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_methods: dict[weakref.WeakMethod[Any], None] = {}


def in_child(method: Callable[[], None]) -> None:
    """Call a bound method in every child that is forked from now on.

    Unlike `os.register_at_fork` this does not keep the method's object alive, with all it has open.
    Methods are called in the order in which they were given.
    """
    _methods[weakref.WeakMethod(method, lambda reference: _methods.pop(reference, None))] = None


def _run() -> None:
    for reference in list(_methods):
        method = reference()
        if method is not None:
            method()


os.register_at_fork(after_in_child=_run)
