"""Segments and incoming points in Swift.

Layout::

    <prefix>-segments-<0..7>           <name>    segments, spread by the CRC-32 of their names
    incoming<sacks>-<group>            <name>    waiting points (`gnocchi.drivers.objects`)
    incoming<sacks>-damaged            <name>    copies of those that failed their checksum

With ``swift_container_prefix_all`` the latter two begin with ``<prefix>-``. Other containers of the
account belong to others: they are neither listed nor changed.

Connections belong to one process and are made with its first request; a thread has one to itself
while it makes a request. A request that was refused for a reason that may pass, or that did not
reach Swift, is repeated a few times; one that got no answer in time is not. A token that is refused
is replaced once. Swift checks what it is sent by its MD5.

Listings may lag behind: Swift enters an object into the listing of its container later when the
container's server is busy. So a listing may lack an object that is there (it is found by a later
one), or show one that is not (reading it tells). The queue reads with ``X-Newest``, so that a copy
which missed the removal does not bring an object back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
import zlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar
from urllib.parse import quote, urlsplit

from gnocchi import errors, forks
from gnocchi.drivers.objects import Listed, ObjectIncoming, Objects
from gnocchi.drivers.swift_login import (
    Account,
    Entry,
    Login,
    Refused,
    module,
    prepare,
    reason,
    timed_out,
    unreached,
)
from gnocchi.storage import NoSuchObject, Storage, Stored
from gnocchi.threads import Parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

SEGMENT_CONTAINERS = 8  # listings stay fast with tens of millions of segments; never to be changed
DELETE_AT_ONCE = 1000
LONGEST_PREFIX = 200  # names of containers have at most 256 bytes
FEW = 3  # so many objects are removed one by one
PARALLEL = 8  # requests that one process has under way

_PASSING = {408, 429, 498, 499, 500, 502, 503, 504}

_R = TypeVar("_R")
_Page: TypeAlias = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a request is made; ``swift_timeout`` says how long each may take."""

    attempts: int = 3
    pause_s: float = 0.2  # before the second attempt; twice as long before each further one


PATIENCE = Patience()


class Refusal(errors.Unavailable):
    """An answer other than success, with its status; None if it cannot be understood."""

    def __init__(self, what: str, status: int | None, said: str) -> None:
        answer = said if status is None else f"Swift answered {status} ({said})"
        super().__init__(f"Unable to {what}: {answer}")
        self.status = status


class Denied(Refused):
    """The credentials are accepted, and do not suffice."""


class Connection:
    """Requests to one account of Swift. Safe for threads and across forks."""

    def __init__(self, conf: Any) -> None:
        self._account = Account.of(conf)
        self._login = Login(self._account)
        self._patience = PATIENCE
        self._renew()
        forks.in_child(self._renew)  # sockets must not be shared

    def give_up_after(self, seconds: float) -> None:
        """Bound each request of the connections that are made from now on."""
        self._account = replace(self._account, timeout_s=min(self._account.timeout_s, seconds))
        self._login = Login(self._account)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Any] = []
        self._information: dict[str, Any] | None = None

    def call(self, what: str, request: Callable[[Any, Entry, Any], _R]) -> _R:
        """Make a request; repeat it while that may help.

        Args:
            what: what it is for, as in 'Unable to …'.
            request: is given swiftclient's module, the storage URL with a token, and a connection.

        Raises:
            Unavailable, Misconfigured: it failed.
            Refusal: Swift's answer is one that the caller may understand.
        """
        client = module("swiftclient.client")
        pause = self._patience.pause_s
        # A repetition may take as long as that again: what was refused late is not repeated.
        soon = time.monotonic() + self._account.timeout_s / 4
        renewed = False
        attempt = 1
        while True:
            entry = self._login.entry()
            try:
                with self._connected(client, entry) as connection:
                    return request(client, entry, connection)
            except client.ClientException as e:
                status = e.http_status
                if status == 401 and not renewed:
                    self._login.refuse(entry)
                    renewed = True
                    continue
                last = attempt == self._patience.attempts or time.monotonic() > soon
                if status not in _PASSING or last:
                    raise _refusal(what, status, e.http_reason or e.msg) from e
            except unreached() as e:
                if timed_out(e) or attempt == self._patience.attempts:
                    raise errors.Unavailable(f"Unable to {what}: {reason(e)}") from e
            except ValueError as e:  # a page for people, from something in between
                raise Refusal(what, None, "the answer is not one of Swift") from e
            attempt += 1
            time.sleep(pause)
            pause *= 2

    @contextlib.contextmanager
    def _connected(self, client: Any, entry: Entry) -> Iterator[Any]:
        """A connection of nobody else's; kept for others unless something went wrong."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = self._connect(client, entry)
        try:
            yield connection
        except client.ClientException as e:
            if e.http_status in (408, 499):  # the server may still wait for the rest
                connection.close()
            else:
                self._keep(connection)
            raise
        except BaseException:
            connection.close()
            with self._lock:  # the others are likely to be as dead
                dead, self._idle = self._idle, []
            for other in dead:
                other.close()
            raise
        else:
            self._keep(connection)

    def _keep(self, connection: Any) -> None:
        with self._lock:
            if len(self._idle) < PARALLEL:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self, client: Any, entry: Entry) -> Any:
        account = self._account
        prepare(account)
        return client.http_connection(
            entry.url,
            cacert=account.verify if isinstance(account.verify, str) else None,
            insecure=account.verify is False,
            timeout=account.timeouts_s,
        )[1]

    @property
    def information(self) -> dict[str, Any]:
        """What this Swift offers and where its limits are; empty if it does not tell."""
        if self._information is None:

            def ask(client: Any, entry: Entry, connection: Any) -> dict[str, Any]:
                parts = urlsplit(entry.url)
                path = parts.path.partition("/v1")[0] + "/info"
                found: dict[str, Any] = client.get_capabilities(
                    (parts._replace(path=path), connection)
                )
                return found

            try:
                self._information = self.call("ask Swift what it offers", ask)
            except Refusal as e:
                if e.status in _PASSING:
                    raise
                self._information = {}
            except Refused:
                self._information = {}
        return self._information


def _refusal(what: str, status: int | None, said: str) -> errors.Unavailable:
    if status == 401:
        return Refused(f"Unable to {what}: Swift refuses the credentials (401)")
    if status == 403:
        return Denied(f"Unable to {what}: the user of Swift lacks the permission (403)")
    if status == 413:
        said = "the object is too large, or the quota is used up"
    return Refusal(what, status, said)


class Containers(Objects):
    """Objects in containers of one account; keys are ``<container>/<name>``."""

    def __init__(self, conf: Any) -> None:
        self._connection = Connection(conf)
        self._policy = conf.swift_storage_policy or None
        self._parallel = Parallel(PARALLEL, "swift")

    def give_up_after(self, seconds: float) -> None:
        self._connection.give_up_after(seconds)

    def make(self, container: str) -> None:
        """Create a container unless it is there.

        Raises:
            Misconfigured: it cannot be created.
        """
        headers = {} if self._policy is None else {"X-Storage-Policy": self._policy}

        def make(client: Any, entry: Entry, connection: Any) -> None:
            client.put_container(
                entry.url, entry.token, container, headers, http_conn=_pair(entry, connection)
            )

        try:
            self._connection.call(f"create the container {container}", make)
        except Refused as e:
            raise errors.Misconfigured(str(e)) from e
        except Refusal as e:
            if e.status == 409:
                return  # it is there, with another policy
            if e.status == 400 and self._policy is not None:
                raise errors.Misconfigured(
                    f"{e}: does swift_storage_policy, {self._policy}, exist?"
                ) from e
            if e.status in (400, 404, 405):
                raise errors.Misconfigured(f"{e}: is swift_url that of an account?") from e
            raise

    def put(self, key: str, data: bytes | memoryview) -> None:
        container, _, name = key.partition("/")
        body = bytes(data)
        digest = hashlib.md5(body, usedforsecurity=False).hexdigest()

        def put(client: Any, entry: Entry, connection: Any) -> None:
            client.put_object(
                entry.url,
                entry.token,
                container,
                name,
                body,
                content_length=len(body),
                etag=digest,
                content_type="application/octet-stream",
                http_conn=_pair(entry, connection),
            )

        try:
            self._connection.call(f"write {key}", put)
        except Refusal as e:
            raise _unmade(container, e) from e

    def get(self, key: str) -> bytes | None:
        found = self._read(key, {"X-Newest": "true"})
        return None if found is None else found[1]

    def read(self, key: str, offset: int, length: int) -> bytes | None:
        """A range of an object, cut at its end; None if it is not there."""
        # A range cannot be empty. Asking for a byte tells whether the object is there.
        last = offset + max(length, 1) - 1
        try:
            found = self._read(key, {"Range": f"bytes={offset}-{last}"})
        except Refusal as e:
            if e.status == 416:  # it ends before
                return b""
            raise
        if found is None:
            return None
        headers, data = found
        if "content-range" not in headers:  # the whole object: something in between knows no ranges
            data = data[offset:]
        return data[:length]

    def _read(self, key: str, headers: dict[str, str]) -> tuple[dict[str, str], bytes] | None:
        container, _, name = key.partition("/")

        def get(client: Any, entry: Entry, connection: Any) -> tuple[dict[str, str], bytes]:
            told, data = client.get_object(
                entry.url,
                entry.token,
                container,
                name,
                headers=headers,
                http_conn=_pair(entry, connection),
            )
            if len(data) != int(told.get("content-length", len(data))):
                raise ConnectionResetError(0, "the answer was cut short")
            return told, data

        try:
            return self._connection.call(f"read {key}", get)
        except Refusal as e:
            if e.status == 404:
                return None
            raise

    # ---------------------------------------------------------------- removing

    def delete(self, keys: Sequence[str]) -> None:
        bulk = {} if len(keys) <= FEW else self._connection.information.get("bulk_delete")
        if not bulk:
            self._parallel.map(self._delete, keys)
            return
        size = min(DELETE_AT_ONCE, int(bulk.get("max_deletes_per_request", DELETE_AT_ONCE)))
        for start in range(0, len(keys), size):
            self._delete_at_once(keys[start : start + size])

    def _delete(self, key: str) -> None:
        container, _, name = key.partition("/")

        def delete(client: Any, entry: Entry, connection: Any) -> None:
            client.delete_object(
                entry.url, entry.token, container, name, http_conn=_pair(entry, connection)
            )

        try:
            self._connection.call(f"remove {key}", delete)
        except Refusal as e:
            if e.status != 404:
                raise

    def _delete_at_once(self, keys: Sequence[str]) -> None:
        lines = "".join(f"{quote(key)}\n" for key in keys).encode()

        def delete(client: Any, entry: Entry, connection: Any) -> None:
            _, body = client.post_account(
                entry.url,
                entry.token,
                {"Accept": "application/json", "Content-Type": "text/plain"},
                query_string="bulk-delete",
                data=lines,
                http_conn=_pair(entry, connection),
            )
            status = _status_of(body)
            if status != 200:
                raise client.ClientException(
                    "Bulk delete failed", http_status=status, http_reason="removing several objects"
                )

        self._connection.call("remove objects", delete)

    # ---------------------------------------------------------------- listing

    def list(self, folder: str) -> Iterator[Listed]:
        limit = int(self._connection.information.get("swift", {}).get("container_listing_limit", 0))
        marker = ""
        while True:
            now, page = self._page(folder, marker)
            for entry in page:
                yield Listed(entry["name"], now - _seconds(entry["last_modified"]))
            # Who does not tell how many it lists at most is asked until nothing comes.
            if not page or len(page) < limit:
                return
            marker = page[-1]["name"]

    def _page(self, container: str, marker: str) -> tuple[float, _Page]:
        """What comes after a name, and the time of the server."""

        def get(client: Any, entry: Entry, connection: Any) -> tuple[dict[str, str], Any]:
            found: tuple[dict[str, str], Any] = client.get_container(
                entry.url,
                entry.token,
                container,
                marker=marker,
                http_conn=_pair(entry, connection),
            )
            return found

        try:
            headers, page = self._connection.call(f"list {container}", get)
        except Refusal as e:
            raise _unmade(container, e) from e
        return _time_of(headers), page


def _pair(entry: Entry, connection: Any) -> tuple[Any, Any]:
    """A connection as swiftclient wants it; a new token may come with another URL."""
    return urlsplit(entry.url), connection


def _unmade(container: str, refusal: Refusal) -> errors.GnocchiError:
    if refusal.status == 404:
        return errors.Misconfigured(
            f"The container {container} does not exist in Swift: run gnocchi-upgrade"
        )
    return refusal


def _status_of(body: bytes) -> int:
    """What became of a bulk delete: its own status, for the answer's was sent before it began."""
    try:
        answer = json.loads(body)
        statuses = [int(answer["Response Status"][:3])]
        statuses += [int(status[:3]) for _, status in answer["Errors"]]
    except (ValueError, KeyError, TypeError):
        return 502
    serious = [status for status in statuses[1:] if status != 404]
    return serious[0] if serious else statuses[0]


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).replace(tzinfo=UTC).timestamp()


def _time_of(headers: dict[str, str]) -> float:
    """The server's time, which its time stamps are compared with; ours if it does not tell."""
    try:
        return parsedate_to_datetime(headers["date"]).timestamp() + 0.5  # it is cut to seconds
    except (KeyError, ValueError):
        return time.time()


def _prefix(conf: Any) -> str:
    prefix = str(conf.swift_container_prefix)
    if "/" in prefix or len(quote(prefix)) > LONGEST_PREFIX:
        raise errors.Misconfigured(
            f"swift_container_prefix has a slash, or more than {LONGEST_PREFIX} bytes"
        )
    return prefix


class SwiftStorage(Storage):
    """Segments as objects."""

    def __init__(self, conf: Any) -> None:
        self._containers = Containers(conf)
        prefix = _prefix(conf)
        self._names = [f"{prefix}-segments-{number}" for number in range(SEGMENT_CONTAINERS)]

    def _key(self, name: str) -> str:
        return f"{self._names[zlib.crc32(name.encode()) % SEGMENT_CONTAINERS]}/{name}"

    def give_up_after(self, seconds: float) -> None:
        self._containers.give_up_after(seconds)

    def upgrade(self) -> None:
        for name in self._names:
            self._containers.make(name)

    def put(self, name: str, data: bytes | memoryview) -> None:
        self._containers.put(self._key(name), data)

    def read(self, name: str, offset: int, length: int) -> bytes:
        data = self._containers.read(self._key(name), offset, length)
        if data is None:
            raise NoSuchObject(name)
        return data

    def delete(self, names: Iterable[str]) -> None:
        self._containers.delete([self._key(name) for name in names])

    def list(self) -> Iterator[Stored]:
        for container in self._names:
            for name, age_s in self._containers.list(container):
                yield Stored(name, age_s)


class SwiftIncoming(ObjectIncoming):
    """Waiting points as objects."""

    #: Copies of a container agree again after a pass of its replicator, which takes some minutes.
    listing_lag_s: ClassVar[float] = 600.0

    def __init__(self, conf: Any, sacks: int) -> None:
        self._containers = Containers(conf)
        prefix = f"{_prefix(conf)}-" if conf.swift_container_prefix_all else ""
        self._prefix = f"{prefix}incoming{sacks}-"
        super().__init__(self._containers, sacks, PARALLEL)

    def upgrade(self) -> None:
        for container in (*self._folders, self.damaged_folder()):
            self._containers.make(container)

    def folder(self, group: int) -> str:
        return f"{self._prefix}{group}"

    def damaged_folder(self) -> str:
        return f"{self._prefix}damaged"
