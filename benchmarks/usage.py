"""What processes use, from ``/proc``: CPU seconds, memory, bytes read and written."""

from __future__ import annotations

import contextlib
import os
import pathlib
import threading
from typing import TYPE_CHECKING, NamedTuple, Self

from tests.acceptance import processes

if TYPE_CHECKING:
    from types import TracebackType

    from tests.acceptance.processes import Command

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20


class Memory(NamedTuple):
    """Bytes of all processes together; memory they share counts once in ``pss``."""

    pss: int
    rss: int


class Transfer(NamedTuple):
    """System calls that read and wrote, and the bytes that were written for the disk."""

    reads: int
    writes: int
    written: int


def cpu_s(command: Command) -> float:
    """Return the CPU seconds of all processes of a command since it was started.

    Those of processes that ended are with the parents that waited for them.
    """
    ticks = 0
    for process in command.processes():
        with contextlib.suppress(OSError):
            # user and system time, own and of children that ended
            ticks += sum(map(int, processes.stat(process.pid)[11:15]))
    return ticks / TICKS_PER_S


def memory(command: Command) -> Memory:
    """Return the memory of all processes of a command together."""
    each = memory_of_each(command).values()
    return Memory(sum(m.pss for m in each), sum(m.rss for m in each))


def memory_of_each(command: Command) -> dict[str, Memory]:
    """Return the memory of every process of a command, by its title."""
    found = {}
    for process in command.processes():
        fields = _fields(process.pid, "smaps_rollup")
        kib = Memory(fields.get("Pss", 0), fields.get("Rss", 0))
        found[process.title or str(process.pid)] = Memory(kib.pss * 1024, kib.rss * 1024)
    return found


def transfer(command: Command) -> Transfer:
    """Return what the live processes of a command have transferred."""
    found = [_fields(process.pid, "io") for process in command.processes()]
    return Transfer(*(sum(f.get(k, 0) for f in found) for k in ("syscr", "syscw", "write_bytes")))


def _fields(pid: int, name: str) -> dict[str, int]:
    with contextlib.suppress(OSError):
        lines = pathlib.Path("/proc", str(pid), name).read_text(encoding="utf-8").splitlines()
        pairs = (line.split()[:2] for line in lines if ":" in line.split()[0])
        return {key.rstrip(":"): int(value) for key, value in pairs if value.isdigit()}
    return {}


class Peak:
    """The largest memory of a command while the ``with`` block runs.

    Attributes:
        memory: of all processes together.
        each: of every process, by its title.
    """

    def __init__(self, command: Command, every_s: float = 0.2) -> None:
        self._command = command
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.memory = Memory(0, 0)
        self.each: dict[str, Memory] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(self._every_s):
            now = memory_of_each(self._command)
            pss, rss = sum(m.pss for m in now.values()), sum(m.rss for m in now.values())
            self.memory = Memory(max(pss, self.memory.pss), max(rss, self.memory.rss))
            for title, used in now.items():
                before = self.each.get(title, Memory(0, 0))
                self.each[title] = Memory(max(used.pss, before.pss), max(used.rss, before.rss))
