"""What every command does first and last: configuration, logging, patience, exit status.

Invariants: a command that cannot do its work ends with a status other than 0 and one line that
says why, without a traceback, and at once when waiting cannot help. A server that does not answer
is waited for, since machines start in any order.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, TypeVar

import tenacity

from gnocchi import config, errors, logs, service

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oslo_config import cfg

LOG = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0


def configure(
    prog: str,
    args: Sequence[str] | None,
    *,
    options: Sequence[cfg.Opt] = (),
    to_stderr: bool = False,
    middleware: bool = False,
) -> config.Configuration:
    """Read the configuration of a command and direct its log; the first thing every command does.

    Args:
        args: the arguments; those of the process when None.
        options, middleware: as for `config.prepare`.
        to_stderr: as for `logs.setup`.
    """
    given = sys.argv[1:] if args is None else args
    conf = config.prepare(given, prog, options=options, middleware=middleware)
    logs.setup(conf, prog, to_stderr=to_stderr)
    return conf


def run(prog: str, command: Callable[[], int]) -> int:
    """Run a command at the edge of the process; return the exit status.

    Misconfiguration, and servers that did not answer for as long as the command waits, end in one
    line on standard error. Everything else is a defect and shows its traceback.
    """
    try:
        return command()
    except (errors.Misconfigured, errors.Unavailable) as error:
        line = " ".join(str(error).split())
        if any(isinstance(h, logging.FileHandler) for h in logging.getLogger().handlers):
            LOG.critical("%s", line)
        print(f"{prog}: {line}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def until_available(
    function: Callable[[], T],
    *,
    attempts: int | None = None,
    stop: threading.Event | None = None,
) -> T:
    """Call a function again while a server it needs does not answer, with growing pauses.

    Args:
        attempts: give up after so many calls; never by default.
        stop: give up when this is set.

    Raises:
        Unavailable: given up; the error of the last call.
    """
    stop = stop or threading.Event()
    limits: list[tenacity.stop.stop_base] = [tenacity.stop_when_event_set(stop)]
    if attempts is not None:
        limits.append(tenacity.stop_after_attempt(attempts))
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(errors.Unavailable),
        wait=tenacity.wait_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S),
        stop=tenacity.stop_any(*limits),
        sleep=tenacity.sleep_using_event(stop),
        before_sleep=_report,
        reraise=True,
    )
    return retrying(function)


def check(conf: config.Configuration) -> None:
    """Make sure that everything is there which a daemon needs; wait for servers.

    Raises:
        Misconfigured: something has to be changed first, or ``gnocchi-upgrade`` to be run.
    """
    db = service.open_database(conf)
    if db.sqlite and not os.path.exists(db.url.database or ""):
        raise errors.Misconfigured(
            f"The indexer's database {db.url.database} does not exist: run gnocchi-upgrade"
        )
    db.close()
    for group in ("storage", "incoming"):
        section = conf[group]
        if section.driver == "file" and not os.access(section.file_basepath, os.W_OK):
            raise errors.Misconfigured(
                f"[{group}] file_basepath: {section.file_basepath} is not a directory that this "
                "user may write; if it does not exist yet, run gnocchi-upgrade"
            )

    def connect() -> None:
        services = service.connect(conf)
        services.incoming.waiting()
        services.db.close()

    # What does not work with files now will not either in a second.
    until_available(connect, attempts=1 if db.sqlite else None)


def share_memory() -> None:
    """Keep what has been loaded so far shared with the processes forked from now on.

    The garbage collector would write to every object, and so copy every page.
    """
    gc.collect()
    gc.freeze()


def return_memory() -> None:
    """Give memory that was used for large arrays, and is free again, back to the system.

    The C library keeps it otherwise, fragmented, for as long as the process lives. Other C
    libraries than GNU's have no such function and do it by themselves.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _report(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    pause_s = state.next_action.sleep if state.next_action else 0.0
    LOG.error("%s. Next attempt in %.1f s", error, pause_s)
