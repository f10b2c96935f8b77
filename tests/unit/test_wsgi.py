"""The application that is put together at its first request, and where gnocchi-api listens."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults

import pytest

import gnocchi.rest.wsgi
import gnocchi.wsgi.api
from gnocchi import api_server, cli, config
from gnocchi.wsgi import LazyApplication

if TYPE_CHECKING:
    import pathlib


def call(application: LazyApplication) -> bytes:
    """Send a request; return the body."""
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    return b"".join(application(environ, lambda *_: lambda _: None))


def hello(environ: Any, start_response: Any) -> list[bytes]:
    """Answer anything."""
    start_response("200 OK", [])
    return [b"hello"]


def test_nothing_is_built_before_the_first_request() -> None:
    LazyApplication(lambda: pytest.fail("built too early"))


def test_threads_build_it_once() -> None:
    builds = []
    together = threading.Barrier(8)

    def build() -> Any:
        builds.append(threading.current_thread())
        return hello

    application = LazyApplication(build)

    def use() -> None:
        together.wait()
        answers.append(call(application))

    answers: list[bytes] = []
    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [b"hello"] * 8
    assert len(builds) == 1


def test_next_request_tries_again_when_building_failed() -> None:
    outcomes = [RuntimeError("not yet"), None]

    def build() -> Any:
        if (outcome := outcomes.pop(0)) is not None:
            raise outcome
        return hello

    application = LazyApplication(build)
    with pytest.raises(RuntimeError, match="not yet"):
        call(application)
    assert call(application) == b"hello"


def test_all_names_are_one_application() -> None:
    assert gnocchi.wsgi.api.application is gnocchi.wsgi.application
    assert gnocchi.rest.wsgi.application is gnocchi.wsgi.application


def test_address_is_that_of_the_mode_which_the_paste_file_asks_for(tmp_path: pathlib.Path) -> None:
    """Files of release 3.0 switched Keystone on without an option; others have to reach it."""
    path = tmp_path / "gnocchi.conf"
    path.touch()
    (tmp_path / "api-paste.ini").write_text("[pipeline:main]\npipeline = gnocchi+auth\n")
    conf = config.prepare(["--config-file", str(path)], "gnocchi-api", options=cli.API_OPTIONS)
    assert api_server.address(conf) == "0.0.0.0:8041"
    asked = [notice for notice in conf.notices if "[api] auth_mode = keystone" in notice]
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        ("", [], "127.0.0.1:8041"),
        ("[api]\nhost = 0.0.0.0\nport = 1", [], "0.0.0.0:1"),
        ("", ["--host", "::1", "--port", "2"], "[::1]:2"),
        ("", ["--host", "0.0.0.0"], "0.0.0.0:8041"),
        ("[api]\nauth_mode = remoteuser", [], "0.0.0.0:8041"),
        # meant for other programs
        ("[DEFAULT]\nhost = node-7\nport = 9", [], "127.0.0.1:8041"),
    ],
)
def test_address(tmp_path: pathlib.Path, text: str, arguments: list[str], expected: str) -> None:
    path = tmp_path / "gnocchi.conf"
    path.write_text(text)
    given = ["--config-file", str(path), *arguments]
    conf = config.prepare(given, "gnocchi-api", options=cli.API_OPTIONS)
    assert api_server.address(conf) == expected
