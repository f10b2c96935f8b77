"""Time-outs for answers of the database servers.

A server that was stopped, or a network that was cut, would keep a request waiting for ever: the
kernel goes on answering for a stopped process, and on a cut network nothing says that nobody
answers. PyMySQL has time-outs of its own; for psycopg2, waiting in Python is how to bound it.
"""

from __future__ import annotations

import functools
import select
import time
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import sqlalchemy as sa


def connect_args(url: sa.URL, answer_timeout_s: float | None) -> dict[str, Any]:
    """Return arguments for the driver that bound how long it waits.

    Args:
        url: what the operator gave; time-outs that are in there hold.
        answer_timeout_s: longest wait for the answer to one statement, and for a connection;
            without it only connecting is bounded.
    """
    if url.get_backend_name() == "postgresql":
        arguments: dict[str, Any] = (
            {} if "connect_timeout" in url.query else {"connect_timeout": 10}
        )
        if answer_timeout_s is not None and url.get_driver_name() == "psycopg2":
            arguments["connection_factory"] = _impatient(answer_timeout_s)
        return arguments
    if answer_timeout_s is None:
        return {}
    # Drivers in C know whole seconds only, of which 0 would mean no limit.
    exact = url.get_driver_name() == "pymysql"
    limit = answer_timeout_s if exact else max(1, round(answer_timeout_s))
    given = {"connect_timeout": min(10, limit), "read_timeout": limit, "write_timeout": limit}
    return {name: value for name, value in given.items() if name not in url.query}


@functools.cache
def _impatient(answer_timeout_s: float) -> type[Any]:
    """A class of psycopg2 connections; the first one makes the library wait through `_wait`."""
    from psycopg2 import extensions

    class Connection(extensions.connection):  # type: ignore[misc]
        answer_timeout: ClassVar[float] = answer_timeout_s

    extensions.set_wait_callback(_wait)
    return Connection


def _wait(connection: Any) -> None:
    """Wait until the server has answered; an error makes psycopg2 close the connection.

    It applies to all connections of the process, also to those that have no time-out.
    """
    from psycopg2 import OperationalError, extensions

    timeout_s = getattr(connection, "answer_timeout", None)
    end = None if timeout_s is None else time.monotonic() + timeout_s
    while (state := connection.poll()) != extensions.POLL_OK:
        poll = select.poll()
        poll.register(
            connection.fileno(),
            select.POLLIN if state == extensions.POLL_READ else select.POLLOUT,
        )
        left_s = None if end is None else max(0.0, end - time.monotonic())
        if not poll.poll(None if left_s is None else left_s * 1000):
            raise OperationalError(f"no answer within {timeout_s:g} s")
