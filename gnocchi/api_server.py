"""The HTTP server of ``gnocchi-api``: gunicorn, set up by this program's options alone.

Invariants: everything that can be wrong with the configuration is found before the port is
opened; each worker process connects after the fork, so no connection is shared; a stop lets
requests finish within ``graceful_shutdown_timeout``.

Other WSGI servers do not come through here but through `gnocchi.wsgi`.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import gunicorn.app.base
import gunicorn.glogging
import gunicorn.http.message
import gunicorn.workers.gthread

from gnocchi import config, startup, wsgi

# Loaded before the fork, so that the workers share the memory.
from gnocchi import coordination as coordination
from gnocchi.rest import app as app
from gnocchi.rest import pipelines

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

LOG = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"

#: Where workers keep their heartbeat: files without a name, which no disk needs to see.
MEMORY_DIRECTORY = "/dev/shm"  # noqa: S108
#: Request lines carry metric ids by the hundred. gunicorn caps its own option at an eighth of it.
LONGEST_REQUEST_LINE = 65536
KEEP_ALIVE_S = 75
#: A worker whose main thread does not move for so long is replaced. Requests are not limited.
HANGING_S = 120
FOR_EVER_S = 10**8


class Logger(gunicorn.glogging.Logger):  # type: ignore[misc]
    """Hands gunicorn's messages to the log of this program."""

    def setup(self, cfg: Any) -> None:
        """Leave handlers alone: those of the root logger are in place already."""
        self.loglevel = logging.INFO
        self.error_log = LOG


class Worker(gunicorn.workers.gthread.ThreadWorker):  # type: ignore[misc]
    """A worker process that lets go of the port soon after its master was killed."""

    def is_parent_alive(self) -> bool:
        """Tell whether the master is there; without it, answer no further requests.

        The base class only leaves its loop: connections that are kept alive would go on being
        served, and hold the port against a new master, for as long as a graceful stop may take.
        """
        if super().is_parent_alive():
            return True
        self.alive = False
        return False


class Server(gunicorn.app.base.BaseApplication):  # type: ignore[misc]
    """The master process and its workers."""

    def __init__(self, conf: config.Configuration, address: str) -> None:
        self._conf = conf
        self._address = address
        super().__init__(prog="gnocchi-api")

    def load_config(self) -> None:
        """Translate this program's options into gunicorn's."""
        gunicorn.http.message.MAX_REQUEST_LINE = LONGEST_REQUEST_LINE
        settings = {
            "bind": self._address,
            "workers": self._conf.api.processes,
            "worker_class": Worker,
            "threads": self._conf.api.threads,
            "keepalive": KEEP_ALIVE_S,
            "timeout": HANGING_S,
            "graceful_timeout": self._conf.graceful_shutdown_timeout or FOR_EVER_S,
            "limit_request_line": LONGEST_REQUEST_LINE,
            # X-Forwarded-* is for the middleware, which asks [api] enable_proxy_headers_parsing.
            "secure_scheme_headers": {},
            "forwarded_allow_ips": "",
            "logger_class": Logger,
            "proc_name": "gnocchi-api",
            # Newer versions open a socket in the user's home directory.
            "control_socket_disable": True,
        }
        if os.path.isdir(MEMORY_DIRECTORY):
            settings["worker_tmp_dir"] = MEMORY_DIRECTORY
        for name, value in settings.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> WSGIApplication:
        """Put the application together; gunicorn calls this in each worker."""
        return wsgi.assemble(self._conf)


def address(conf: config.Configuration) -> str:
    """Return where to listen, ``host:port``.

    Basic authentication does not check passwords, so unless an operator names an address it is
    for this machine alone.
    """
    argument = config.from_arguments(conf, "host")
    host = argument or conf.api.host
    named = argument or config.is_set(conf, "host", "api")
    if not named and pipelines.auth_mode(conf) == "basic":
        host = LOOPBACK
        LOG.warning(
            "auth_mode is basic, which checks no passwords: listening on %s only. "
            "Set [api] host, or give --host, to be reachable from elsewhere.",
            host,
        )
    port = config.from_arguments(conf, "port") or conf.api.port
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def serve(conf: config.Configuration) -> int:
    """Serve until told to stop. Does not return; the process ends with gunicorn's status.

    Raises:
        Misconfigured: before the port is opened.
    """
    startup.check(conf)
    # Built here only to see that it can be: each worker builds its own after the fork.
    wsgi.assemble(conf)
    startup.share_memory()
    Server(conf, address(conf)).run()
    return 0
