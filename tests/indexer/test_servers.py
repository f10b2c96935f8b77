"""The test servers themselves: they leave nothing behind, and nobody misses them unnoticed."""

from __future__ import annotations

import pathlib
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


def test_process_and_directory_are_gone_at_the_end() -> None:
    with servers.sandbox("sleep", "nobody") as box:
        process = box.start("sleep", "1000", ready=lambda: True)
        assert box.directory.is_dir()
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
        "from tests import servers\n"
        "import sys, time\n"
        "with servers.sandbox('orphan', 'nobody') as box:\n"
        "    process = box.start('sleep', '1000', ready=lambda: True)\n"
        "    print(process.pid, box.directory, flush=True)\n"
        "    time.sleep(1000)\n"
    )
    root = pathlib.Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE, text=True
    ) as runner:
        assert runner.stdout is not None
        pid, directory = runner.stdout.readline().split()
        runner.kill()
    handle = pathlib.Path(f"/proc/{pid}/stat")
    for _ in range(100):
        # A zombie waits for an init process to collect it; it is dead all the same.
        if not handle.exists() or handle.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            break
        subprocess.run(["sleep", "0.05"], check=True)
    else:
        pytest.fail("the server still runs")
    pathlib.Path(directory, "log").unlink()
    pathlib.Path(directory).rmdir()


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
