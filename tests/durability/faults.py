"""A layer under the file driver in which one system call fails.

Only calls made through `os` are seen: the driver makes all of its calls there, the database
makes none of its.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CALLS = (
    "open", "write", "fsync", "close", "rename", "unlink", "read", "pread", "mkdir", "link",
    "listdir", "scandir", "stat", "fstat",
)  # fmt: skip


class Faults:
    """Which call fails, and what was called so far."""

    def __init__(self, name: str | None, at: int, error: int) -> None:
        self.calls: list[str] = []
        self.failed: str | None = None  # the call that failed; None if there were fewer calls
        self._name = name
        self._left = at
        self._error = error
        self._thread = threading.get_ident()

    def wrap(self, name: str) -> Callable[..., Any]:
        """The call of that name, which fails in its turn."""
        real = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != self._thread or self.calls[-3:] == [name] * 3:
                return real(*args, **kwargs)  # a loop over many fails like one over three
            self.calls.append(name)
            if self._name not in (None, name):
                return real(*args, **kwargs)
            self._left -= 1
            if self._left != -1:
                return real(*args, **kwargs)
            self.failed = name
            if name == "close":
                real(*args)  # a descriptor is gone also when closing it fails
            if name == "write":
                real(args[0], bytes(args[1])[: len(args[1]) // 2])  # and what fitted is there
            raise OSError(self._error, os.strerror(self._error))

        return call


@contextlib.contextmanager
def failing(name: str | None, at: int, error: int = errno.EIO) -> Iterator[Faults]:
    """Let a system call of this thread fail: number ``at`` (from 0) of those named, or of all."""
    faults = Faults(name, at, error)
    with contextlib.ExitStack() as stack:
        wrapped = {name: faults.wrap(name) for name in CALLS}
        for name, call in wrapped.items():
            stack.enter_context(mock.patch.object(os, name, call))
        yield faults
