"""What children of a fork forget."""

from __future__ import annotations

import gc
import os
import weakref

from gnocchi import forks


class Thing:
    """Notes the process it was renewed in."""

    def __init__(self, order: list[str], name: str) -> None:
        self.order = order
        self.name = name
        forks.in_child(self.renew)

    def renew(self) -> None:
        self.order.append(self.name)


def test_children_renew_what_is_alive_in_order() -> None:
    order: list[str] = []
    things = [Thing(order, name) for name in "abc"]
    del things[1]
    gc.collect()
    child = os.fork()
    if child == 0:
        os._exit(0 if order == ["a", "c"] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert order == []
    assert len(things) == 2


def test_nothing_is_kept_alive() -> None:
    thing = Thing([], "a")
    gone = weakref.ref(thing)
    del thing
    gc.collect()
    assert gone() is None
