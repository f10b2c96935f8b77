"""An installation in a directory of its own, and the installed commands run on it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.faults.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCRIPTS = pathlib.Path(sysconfig.get_path("scripts"))
COMMANDS = (
    "gnocchi-api",
    "gnocchi-metricd",
    "gnocchi-change-sack-size",
    "gnocchi-upgrade",
    "gnocchi-config-generator",
    "gnocchi-policy-generator",
)
TIMEOUT_S = 60


@dataclass
class Process:
    """A running command and the file that holds what it said."""

    popen: subprocess.Popen[bytes]
    output: pathlib.Path

    @property
    def text(self) -> str:
        """Everything it has said so far."""
        return self.output.read_text(errors="replace")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; return the status."""
        self.popen.send_signal(number)
        return self.popen.wait(TIMEOUT_S)

    def children(self) -> dict[int, str]:
        """The direct children that live, by process id, with their titles."""
        found = {}
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, IndexError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(parent) == self.popen.pid and state != "Z":
                    title = (entry / "cmdline").read_text().replace("\0", " ").strip()
                    found[int(entry.name)] = title
        return found


@dataclass
class Site:
    """A configuration file, a data directory, and commands that use them."""

    directory: pathlib.Path
    upgraded: pathlib.Path
    options: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def configuration(self) -> pathlib.Path:
        """The configuration file."""
        return self.directory / "gnocchi.conf"

    @property
    def data(self) -> pathlib.Path:
        """Where everything is stored."""
        return self.directory / "data"

    def environment(self) -> dict[str, str]:
        """An environment without anything of the user's own configuration."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OS_", "GNOCCHI_"))}
        return kept | {"HOME": str(self.directory), "PYTHONWARNINGS": "default"}

    def write(self) -> None:
        """Write the configuration file."""
        options = {"storage": {}, "api": {}, "metricd": {}} | self.options
        options["storage"] = {"file_basepath": str(self.data)} | options["storage"]
        options["api"] = {"processes": "1", "threads": "2"} | options["api"]
        options["metricd"] = {"workers": "1"} | options["metricd"]
        self.configuration.write_text(
            "".join(
                f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in values.items())
                for group, values in options.items()
            )
        )

    def arguments(self, name: str, *args: str) -> list[str]:
        """The command line of a command that reads this site's configuration."""
        return [str(SCRIPTS / name), "--config-file", str(self.configuration), *args]

    def run(self, name: str, *args: str, timeout_s: float = TIMEOUT_S) -> Any:
        """Run a command to its end."""
        self.write()
        return self.execute(self.arguments(name, *args), timeout_s)

    def run_forked(self, name: str, *args: str) -> Any:
        """Run a command as `run` does, in a fraction of the time and not from its script.

        What is said to be ``stderr`` has standard output in it too.
        """
        self.write()
        return self.execute_forked(name, "--config-file", str(self.configuration), *args)

    def execute_forked(self, name: str, *args: str) -> Any:
        """Run a command with these arguments alone, without its script."""
        with Command(name, args, self.directory) as command:
            status = command.wait()
            said = command.file.read_text()
        return subprocess.CompletedProcess([name, *args], status, "", said)

    def execute(self, arguments: list[str], timeout_s: float = TIMEOUT_S) -> Any:
        """Run any program to its end, in this site's environment."""
        return subprocess.run(
            arguments,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=self.environment(),
            cwd=self.directory,
            check=False,
        )

    @contextlib.contextmanager
    def start(self, name: str, *args: str) -> Iterator[Process]:
        """Start a command; it is killed at the end of the block if it still runs."""
        self.write()
        with self.spawn(self.arguments(name, *args), name) as process:
            yield process

    @contextlib.contextmanager
    def spawn(self, arguments: list[str], name: str) -> Iterator[Process]:
        """Start any program in this site's environment."""
        output = self.directory / f"{name}.output"
        with output.open("wb") as stream:
            popen = subprocess.Popen(
                arguments,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                cwd=self.directory,
                start_new_session=True,
            )
        process = Process(popen, output)
        try:
            yield process
        finally:
            if popen.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(popen.pid, signal.SIGKILL)
            popen.wait()

    def upgrade(self) -> None:
        """Prepare the site, by copying one that was upgraded for the whole session."""
        shutil.copytree(self.upgraded, self.data)


def until(condition: Callable[[], Any], what: str, timeout_s: float = TIMEOUT_S) -> Any:
    """Poll until a condition holds; return its value."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout_s} s: {what}")


def request(url: str, body: Any = None) -> Any:
    """Send a request as administrator; return the decoded answer, None if it is empty.

    A server that does not listen gives None too.
    """
    credentials = base64.b64encode(b"admin:admin").decode()
    sent = urllib.request.Request(
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(sent, timeout=TIMEOUT_S) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{url}: {error.code} {error.read()!r}") from error
    except (urllib.error.URLError, ConnectionError):
        return None
    return json.loads(text) if text else None


PYTHON = sys.executable
