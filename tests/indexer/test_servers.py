"""The test servers themselves: they leave nothing behind, and nobody misses them unnoticed."""

from __future__ import annotations

import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys

import pytest

from tests import servers
from tests.conftest import require


def test_reserved_ports_differ() -> None:
    ports = {servers.reserve_port() for _ in range(200)}
    assert len(ports) == 200
    assert min(ports) >= servers.PORT_RANGE[0]


def sleep(box: servers.Sandbox) -> subprocess.Popen[bytes]:
    """Start something that is ready once it runs under its final account."""
    up = box.directory / "up"
    return box.start("sh", "-c", "touch up; exec sleep 1000", ready=up.exists)


def test_process_and_directory_are_gone_at_the_end() -> None:
    with servers.sandbox("sleep", "nobody") as box:
        process = sleep(box)
        assert process.poll() is None
    assert process.poll() == -signal.SIGTERM
    assert not box.directory.exists()


def test_server_that_dies_says_why() -> None:
    with (
        servers.sandbox("dead", "nobody") as box,
        pytest.raises(servers.ServerError, match="no luck today"),
    ):
        box.start("sh", "-c", "echo no luck today; exit 3", ready=lambda: False)


def test_command_that_fails_says_why() -> None:
    with (
        servers.sandbox("dead", "nobody") as box,
        pytest.raises(servers.ServerError, match=r"returned 3:\s+no luck today"),
    ):
        box.run("sh", "-c", "echo no luck today; exit 3")


def test_servers_die_with_the_test_process() -> None:
    """Killing the test run must not leave servers running."""
    script = (
        "import sys, time\n"
        "from tests import servers\n"
        "from tests.indexer.test_servers import sleep\n"
        "with servers.sandbox('orphan', 'nobody') as box:\n"
        "    process = sleep(box)\n"
        "    print(process.pid, box.directory, flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    root = pathlib.Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as runner:
        assert runner.stdout is not None
        pid, directory = runner.stdout.readline().split()
        server = os.pidfd_open(int(pid))
        runner.kill()
    poll = select.poll()
    poll.register(server, select.POLLIN)
    ended = poll.poll(10_000)
    os.close(server)
    shutil.rmtree(directory)
    assert ended


def test_missing_server_is_a_skip_that_names_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_REQUIRE_SERVERS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="not installed: b"):
        require({"a": "/bin/a"}, ("a", "b"))


def test_missing_server_is_a_failure_where_servers_are_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEST_REQUIRE_SERVERS", "1")
    with pytest.raises(pytest.fail.Exception, match="not installed: b"):
        require({"a": "/bin/a"}, ("a", "b"))
    require({"a": "/bin/a", "b": "/bin/b"}, ("a", "b"))
