"""The connection to a Ceph cluster, and objects of any size in its pool.

Invariants: nothing is connected before the first call, and each process has a connection of its
own, which its threads and the drivers with the same options share. Every call ends within a small
multiple of ``ceph_timeout``: it bounds connecting and every operation. What does not work raises
Unavailable with one line that names no secret; librados finds the servers again by itself.

RADOS limits the size of an object and of a write, so an object beyond `PART` is kept in several
(``<name>``, ``<name>/1``, …). The first of them makes it exist: it is written last and removed
first.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import ctypes
import errno
import importlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from gnocchi import errors, forks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PART = 32 << 20  # bytes; osd_max_write_size is 90 MB and osd_max_object_size 128 MB by default
AT_ONCE = 64  # operations of one call that are under way at a time

_T = TypeVar("_T")

_TIMEOUTS = ("client_mount_timeout", "rados_mon_op_timeout", "rados_osd_op_timeout")

_SAID = {
    errno.ETIMEDOUT: "no answer in time",
    errno.EPERM: "the user may not do that",
    errno.EACCES: "the user is refused",
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "the quota of the pool is used up",
    errno.ESHUTDOWN: "the cluster has shut this client out",
    errno.ENOTCONN: "not connected",
}
_DEAD = (errno.ESHUTDOWN, errno.ENOTCONN)


class Absent(Exception):
    """The object of a call is not there."""


class Cancelled(Exception):
    """The condition of a write does not hold; nothing was written."""


class Range(NamedTuple):
    """Bytes ``[offset, offset + length)`` of an object."""

    name: str
    offset: int
    length: int


def load_rados() -> Any:
    """The ``rados`` module, which comes with Ceph and not from PyPI.

    Raises:
        Misconfigured: it is missing or too old.
    """
    try:
        rados = importlib.import_module("rados")
    except ImportError as e:
        raise errors.Misconfigured(
            "The Ceph driver needs the Python module rados of the distribution "
            f"(python3-rados), built for this version of Python: {e}"
        ) from e
    if not hasattr(rados.WriteOp, "omap_cmp"):
        raise errors.Misconfigured(
            "The Ceph driver needs the Python module rados of Ceph 16 or newer"
        )
    return rados


def part_name(name: str, number: int) -> str:
    """The RADOS object that holds part ``number`` of an object."""
    return f"{name}/{number}" if number else name


class Cluster:
    """Calls to one pool. Use `Cluster.of`, so that a process has one connection.

    Raises:
        Misconfigured: the module is missing, or a file that an option names.
    """

    _known: ClassVar[dict[tuple[Any, ...], Cluster]] = {}

    def __init__(
        self,
        conffile: str,
        pool: str,
        username: str | None,
        secret: str | None,
        keyring: str | None,
        timeout_s: int,
    ) -> None:
        self.rados = load_rados()
        for option, path in (("ceph_conffile", conffile), ("ceph_keyring", keyring)):
            if path and not os.access(path, os.R_OK):
                raise errors.Misconfigured(f"{option}: {path} cannot be read")
        self._conffile = conffile
        self._pool = pool
        self._username = username
        settings = {"key": secret, "keyring": keyring}
        self._settings = {name: value for name, value in settings.items() if value}
        self._timeout_s = timeout_s
        self._connection: tuple[Any, Any] | None = None
        self._renew()
        forks.in_child(self._renew)
        atexit.register(self.close)

    @classmethod
    def of(cls, conf: Any) -> Cluster:
        """The cluster that the options ``ceph_*`` of a driver describe."""
        options = (
            conf.ceph_conffile,
            conf.ceph_pool,
            conf.ceph_username,
            conf.ceph_secret,
            conf.ceph_keyring,
            conf.ceph_timeout,
        )
        if options not in cls._known:
            cls._known[options] = cls(*options)
        return cls._known[options]

    def give_up_after(self, seconds: float) -> None:
        """Bound each call of the connections that are made from now on."""
        self._timeout_s = max(1, min(self._timeout_s, int(seconds)))

    # ---------------------------------------------------------------- connection

    def _renew(self) -> None:
        """Begin without a connection: in a forked child its threads do not run.

        Even to close what the parent has open would wait for them, so it is never given up.
        """
        for kept in self._connection or ():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
        self._connection = None
        self._lock = threading.Lock()
        self._attempts = 0
        self._failure: errors.GnocchiError | None = None  # of the last attempt

    def close(self) -> None:
        """Disconnect, if connected."""
        with self._lock:
            if self._connection is not None:
                client, io = self._connection
                self._connection = None
                io.close()
                client.shutdown()

    def _io(self) -> Any:
        """The pool's ``Ioctx`` of this process."""
        connection = self._connection
        if connection is not None:
            return connection[1]
        attempts = self._attempts
        with self._lock:
            if self._connection is None:
                # Those who waited for an attempt that failed do not each make another.
                if self._attempts != attempts and self._failure is not None:
                    raise type(self._failure)(str(self._failure))
                try:
                    self._connection = self._connect()
                    self._failure = None
                except errors.GnocchiError as e:
                    self._failure = e
                    raise
                finally:
                    self._attempts += 1
            return self._connection[1]

    def _connect(self) -> tuple[Any, Any]:
        rados = self.rados
        what = f"Unable to connect to Ceph as client.{self._username or 'admin'}"
        if not _is_key(self._settings.get("key")):
            # Ceph's library would write it into its log.
            raise errors.Misconfigured(f"{what}: ceph_secret is malformed: it is no key of Ceph")
        try:
            client = rados.Rados(
                conffile=self._conffile,
                rados_id=self._username,
                conf=self._settings | dict.fromkeys(_TIMEOUTS, str(self._timeout_s)),
            )
        except (rados.Error, TypeError, ValueError) as e:
            raise errors.Misconfigured(f"{what}: the configuration is not accepted: {e}") from None
        try:
            client.connect()
            io = client.open_ioctx(self._pool)
        except rados.Error as e:
            with contextlib.suppress(rados.Error):
                client.shutdown()
            if isinstance(e, rados.ObjectNotFound) and "pool" in str(e):
                raise errors.Misconfigured(f"Ceph pool {self._pool} does not exist") from e
            if isinstance(e, rados.ObjectNotFound):
                raise errors.Misconfigured(f"{what}: no key of this user was found") from e
            if isinstance(e, rados.InvalidArgumentError):
                raise errors.Misconfigured(f"{what}: key or configuration is malformed") from e
            raise errors.Unavailable(f"{what}: {_reason(e.errno)}") from e
        # Operations on a full pool fail at once instead of waiting for space, and removals pass.
        if hasattr(io, "set_osdmap_full_try"):
            io.set_osdmap_full_try()
        return client, io

    # ---------------------------------------------------------------- calls

    def run(self, what: str, call: Callable[[Any], _T]) -> _T:
        """Call with the pool's ``Ioctx``, and translate what goes wrong.

        Args:
            what: for the error, "Unable to ...".

        Raises:
            Absent, Cancelled, Unavailable: see there.
        """
        io = self._io()
        try:
            return call(io)
        except self.rados.Error as e:
            self._raise(what, int(e.errno or errno.EIO), e)
            raise

    def _raise(self, what: str, number: int, cause: BaseException | None = None) -> None:
        if number == errno.ENOENT:
            raise Absent from cause
        if number == errno.ECANCELED:
            raise Cancelled from cause
        if number in _DEAD:
            self._reconnect()
        raise errors.Unavailable(f"{what}: Ceph pool {self._pool}: {_reason(number)}") from cause

    def _reconnect(self) -> None:
        """Let the next call connect again.

        What calls of other threads still use is closed when the last of them has ended.
        """
        with self._lock:
            self._connection = None

    def together(self, what: str, starts: Sequence[Callable[[Any], Any]]) -> list[int]:
        """Start operations, several at a time, and wait for all.

        Args:
            starts: each starts one and returns its completion.

        Returns:
            What each returned: not less than 0, or -ENOENT or -ECANCELED.

        Raises:
            Unavailable: one of them failed; all have ended.
        """
        results: list[int] = []
        for start in range(0, len(starts), AT_ONCE):
            portion = starts[start : start + AT_ONCE]
            results += self.run(what, lambda io, portion=portion: _finish(io, portion))  # type: ignore[misc]
            for result in results[start:]:
                if result < 0 and result not in (-errno.ENOENT, -errno.ECANCELED):
                    self._raise(what, -result)
        return results

    @contextlib.contextmanager
    def write_op(self) -> Iterator[Any]:
        """A write operation to fill."""
        with self.rados.WriteOpCtx() as op:
            yield op

    # ---------------------------------------------------------------- objects

    def put(self, what: str, name: str, data: bytes | memoryview) -> None:
        """Store a whole object."""
        view = memoryview(data).cast("B")
        for number in range(1, -(-len(view) // PART)):
            piece = bytes(view[number * PART : (number + 1) * PART])
            self.run(
                what,
                lambda io, number=number, piece=piece: io.write_full(  # type: ignore[misc]
                    part_name(name, number), piece
                ),
            )
        head = bytes(view[:PART])
        self.run(what, lambda io: io.write_full(name, head))

    def read(self, what: str, ranges: Sequence[Range]) -> list[bytes | None]:
        """Read ranges of objects, several at a time; None for objects that are absent."""
        owner: list[int] = []
        starts: list[Callable[[Any], Any]] = []
        found: list[list[bytes]] = []
        for position, asked in enumerate(ranges):
            for name, offset, length in _parts(asked):
                owner.append(position)
                found.append([])
                starts.append(_reading(name, offset, length, found[-1]))
        results = self.together(what, starts)
        pieces: dict[int, list[bytes] | None] = {}
        for position, result, buffers in zip(owner, results, found, strict=True):
            # the buffer may be longer than what was read
            read = [data[: max(0, result)] for data in buffers]
            if position not in pieces:  # the head comes first
                pieces[position] = read if result >= 0 else None
            elif (known := pieces[position]) is not None:
                known += read
        in_order = (pieces[position] for position in range(len(ranges)))
        return [None if part is None else b"".join(part) for part in in_order]

    def ages(self, what: str, names: Sequence[str]) -> list[float | None]:
        """Seconds since objects were written; None for those that are absent."""
        found: dict[int, float] = {}

        def looking(position: int) -> Callable[[Any], Any]:
            def keep(_completion: Any, _size: int | None, at: time.struct_time | None) -> None:
                if at is not None:
                    found[position] = time.mktime(at)

            return lambda io: io.aio_stat(names[position], keep)

        self.together(what, [looking(position) for position in range(len(names))])
        now = time.time()
        return [
            now - found[position] if position in found else None for position in range(len(names))
        ]

    def everything(self, what: str) -> Iterator[str]:
        """The names of everything in the pool; what cannot be listed is left out."""
        entries = self.run(what, lambda io: io.list_objects())
        while (entry := self.run(what, lambda _io: next(entries, None))) is not None:
            yield str(entry.key)

    def read_whole(self, what: str, name: str) -> bytes:
        """All bytes of an object.

        Raises:
            Absent: it is not there.
        """
        pieces: list[bytes] = []
        while not pieces or len(pieces[-1]) == PART:
            part = part_name(name, len(pieces))
            try:
                pieces.append(self.run(what, lambda io, part=part: io.read(part, PART)))  # type: ignore[misc]
            except Absent:
                if not pieces:
                    raise
                break
        return b"".join(pieces)

    def remove(self, what: str, names: Sequence[str]) -> None:
        """Remove objects with all their parts; those that are absent are no error."""
        self.together(what, [_removing(name) for name in names])
        seconds = self.together(what, [_looking(part_name(name, 1)) for name in names])
        for name, result in zip(names, seconds, strict=True):
            if result >= 0:
                self._remove_parts(what, name)

    def _remove_parts(self, what: str, name: str) -> None:
        """Remove the parts after the first, the last one first: what is left can be found."""
        count = 1
        while self.together(what, [_looking(part_name(name, count))])[0] >= 0:
            count += 1
        for number in range(count - 1, 0, -1):
            self.together(what, [_removing(part_name(name, number))])


def _is_key(text: str | None) -> bool:
    """Whether it is what ``ceph auth print-key`` prints; or nothing.

    That is, in base64: the kind in 2 bytes, when it was made in 8, the length of the rest in 2.
    """
    if text is None:
        return True
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return len(data) > 12 and len(data) >= 12 + int.from_bytes(data[10:12], "little")


def _reason(number: int | None) -> str:
    number = abs(number or errno.EIO)
    return _SAID.get(number) or os.strerror(number)


def _finish(io: Any, starts: Sequence[Callable[[Any], Any]]) -> list[int]:
    completions: list[Any] = []
    try:
        for start in starts:
            completions.append(start(io))
    finally:
        for completion in completions:
            completion.wait_for_complete_and_cb()
    return [int(completion.get_return_value()) for completion in completions]


def _parts(asked: Range) -> Iterator[Range]:
    """The ranges of RADOS objects that make up a range of an object; the first object always."""
    stop = asked.offset + asked.length
    first, last = asked.offset // PART, max(asked.offset, stop - 1) // PART
    if first:
        yield Range(asked.name, 0, 0)  # there are no others without it
    for number in range(first, last + 1):
        low = max(asked.offset - number * PART, 0)
        yield Range(part_name(asked.name, number), low, min(stop - number * PART, PART) - low)


def _reading(name: str, offset: int, length: int, found: list[bytes]) -> Callable[[Any], Any]:
    if not length:
        return _looking(name)  # RADOS takes a length of 0 for everything

    def keep(_completion: Any, data: bytes | None) -> None:
        if data is not None:
            found.append(data)

    return lambda io: io.aio_read(name, length, offset, keep)


def _looking(name: str) -> Callable[[Any], Any]:
    return lambda io: io.aio_stat(name, lambda _completion, _size, _time: None)


def _removing(name: str) -> Callable[[Any], Any]:
    return lambda io: io.aio_remove(name)
