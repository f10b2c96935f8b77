"""The API as a WSGI application, for any WSGI server.

``application`` exists as soon as this module is imported and costs nothing until the first
request: only then configuration is read and the parts are put together, once in each process,
under a lock. So a server may import it before it forks, and may serve it with threads. When
putting together fails, the request that tried gets the error and the next one tries again.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from gnocchi.config import Configuration

PROGRAM = "gnocchi-api"


class LazyApplication:
    """Builds an application at its first request and hands every request to it."""

    def __init__(self, build: Callable[[], WSGIApplication]) -> None:
        self._build = build
        self._lock = threading.Lock()
        self._application: WSGIApplication | None = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self._application is None:
            with self._lock:
                if self._application is None:
                    self._application = self._build()
        return self._application(environ, start_response)


def assemble(conf: Configuration) -> WSGIApplication:
    """Connect, and put the API together; once in each process, after it was forked."""
    from gnocchi import coordination, service
    from gnocchi.rest import app

    services = service.connect(conf, give_up_s=max(1, conf.api.operation_timeout))
    services.members = coordination.Observer(conf).members
    return app.build(services)


def build() -> WSGIApplication:
    """Put the API together from the configuration that ``gnocchi-api`` would find.

    The command line belongs to the WSGI server and is not looked at.
    """
    from gnocchi import config, logs

    conf = config.prepare([], PROGRAM)
    logs.setup(conf, PROGRAM)
    return assemble(conf)


application = LazyApplication(build)
