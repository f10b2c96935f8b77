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

    def __init__(self, at: int, error: int) -> None:
        self.calls: list[str] = []
        self._at = at
        self._error = error
        self._thread = threading.get_ident()

    @property
    def failed(self) -> str | None:
        """The call that failed; None if there were fewer calls."""
        return self.calls[self._at] if len(self.calls) > self._at else None

    def wrap(self, name: str) -> Callable[..., Any]:
        """The call of that name, which fails in its turn."""
        real = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != self._thread or self.calls[-3:] == [name] * 3:
                return real(*args, **kwargs)  # a loop over many fails like one over three
            self.calls.append(name)
            if len(self.calls) - 1 != self._at:
                return real(*args, **kwargs)
            if name == "close":
                real(*args)  # a descriptor is gone also when closing it fails
            if name == "write":
                real(args[0], bytes(args[1])[: len(args[1]) // 2])  # and what fitted is there
            raise OSError(self._error, os.strerror(self._error))

        return call


@contextlib.contextmanager
def failing(at: int, error: int = errno.EIO) -> Iterator[Faults]:
    """Let the system call number ``at`` (from 0) of this thread fail."""
    faults = Faults(at, error)
    with contextlib.ExitStack() as stack:
        wrapped = {name: faults.wrap(name) for name in CALLS}
        for name, call in wrapped.items():
            stack.enter_context(mock.patch.object(os, name, call))
        yield faults
