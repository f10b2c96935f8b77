"""The installed commands, run on a free port with a temporary directory of their own.

`installation` makes the directory and runs ``gnocchi-upgrade``; `Command` starts, watches, kills
and stops one command with all of its processes. Tests and benchmarks both come through here.

Invariants: every command is the leader of a session, and signals go to members of sessions that
were started here, nowhere else. Everything listens on the loopback address. When this process
ends, however it does, the commands are told to end as well; that follows the *thread* that started
them, so start them from the main thread.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.acceptance.client import Client, Lost
from tests.servers import reserve_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 75.0  # a little more than graceful_shutdown_timeout
LOOK_S = 0.05

API, METRICD, UPGRADE = "gnocchi-api", "gnocchi-metricd", "gnocchi-upgrade"

Options = dict[str, dict[str, object]]


class CommandFailed(Exception):
    """A command did not start, or ended on its own; the text ends with what it said."""


def script(name: str) -> pathlib.Path:
    """Return where an installed command is, which need not be the case."""
    return pathlib.Path(sysconfig.get_path("scripts")) / name


def missing() -> list[str]:
    """Return the commands that are not installed beside this Python."""
    return [name for name in (API, METRICD, UPGRADE) if not script(name).exists()]


# ------------------------------------------------------------------ processes


@dataclass(frozen=True, slots=True)
class Process:
    """One line of the process table."""

    pid: int
    parent: int
    session: int
    title: str


def session(leader: int) -> list[Process]:
    """Return the live processes of a session, also when its leader has gone."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            fields = stat(int(entry))
            if int(fields[3]) == leader and fields[0] not in "ZX":
                title = pathlib.Path("/proc", entry, "cmdline").read_bytes()
                text = title.replace(b"\0", b" ").decode(errors="replace").strip()
                found.append(Process(int(entry), int(fields[1]), leader, text))
    return found


def stat(pid: int) -> list[str]:
    """Return the fields of ``/proc/<pid>/stat`` from the state on; raises OSError when gone."""
    # The name in the second field may hold blanks and parentheses.
    text = pathlib.Path("/proc", str(pid), "stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()


def send(process: Process, number: signal.Signals) -> bool:
    """Send a signal to one process of a session; False when it was gone already."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        # The number may have been given to somebody else since the table was read.
        if int(stat(process.pid)[3]) != process.session:
            return False
        signal.pidfd_send_signal(handle, number)
    except (ProcessLookupError, FileNotFoundError):
        return False
    finally:
        os.close(handle)
    return True


# ------------------------------------------------------------------ commands


@dataclass
class Installation:
    """A directory with everything the commands keep, and their configuration.

    Attributes:
        directory: temporary; the data lies in ``directory/data``.
        port: where the API listens, on 127.0.0.1.
    """

    directory: pathlib.Path
    port: int
    started: list[Command] = field(default_factory=list)

    @property
    def data(self) -> pathlib.Path:
        """What the file drivers and SQLite keep."""
        return self.directory / "data"

    @property
    def configuration(self) -> pathlib.Path:
        """The configuration file of all commands."""
        return self.directory / "gnocchi.conf"

    def configure(self, options: Mapping[str, Mapping[str, object]]) -> None:
        """Write the configuration anew; running commands keep theirs."""
        basic: Options = {
            "api": {"host": "127.0.0.1", "port": self.port},
            "storage": {"file_basepath": self.data},
        }
        written = configparser.ConfigParser(interpolation=None)
        for group in {**basic, **options}:
            values = {**basic.get(group, {}), **options.get(group, {})}
            written[group] = {name: str(value) for name, value in values.items()}
        with self.configuration.open("w", encoding="utf-8") as file:
            written.write(file)

    def environment(self) -> dict[str, str]:
        """Return this process's environment without options of ours in it."""
        return {
            name: value
            for name, value in os.environ.items()
            if not (name.startswith("OS_") and "__" in name) and name != "GNOCCHI_INDEXER_URL"
        }

    def upgrade(self, *arguments: str) -> None:
        """Run ``gnocchi-upgrade`` to its end."""
        command = [str(script(UPGRADE)), "--config-file", str(self.configuration), *arguments]
        done = subprocess.run(
            command,
            cwd=self.directory,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise CommandFailed(f"{UPGRADE} returned {done.returncode}:\n{done.stdout[-4000:]}")

    def api(self) -> Command:
        """Return the API as a command that has not been started."""
        return Command(self, API)

    def metricd(self) -> Command:
        """Return metricd as a command that has not been started."""
        return Command(self, METRICD)

    def client(self, timeout_s: float = 60.0) -> Client:
        """Return a client of the API, as its administrator."""
        return Client(self.port, timeout_s=timeout_s)

    def stop(self) -> None:
        """Stop whatever still runs, the command started last first."""
        for command in reversed(self.started):
            command.stop()


class Command:
    """One command with all of its processes; may be started again after it ended."""

    def __init__(self, installation: Installation, name: str) -> None:
        self._installation = installation
        self._process: subprocess.Popen[bytes] | None = None
        self._earlier: list[int] = []
        self.name = name
        self.log = installation.directory / f"{name}.log"

    @property
    def pid(self) -> int:
        """The master process, which is the leader of the session."""
        if self._process is None:
            raise CommandFailed(f"{self.name} has not been started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the master process is there."""
        return self._process is not None and self._process.poll() is None

    def processes(self) -> list[Process]:
        """Return all live processes, those that outlived an earlier master included."""
        if self._process is None:
            return []
        return [process for leader in (*self._earlier, self.pid) for process in session(leader)]

    def master(self) -> Process:
        """Return the process that looks after the others."""
        return Process(self.pid, os.getpid(), self.pid, self.name)

    def children(self) -> list[Process]:
        """Return the processes that the master looks after."""
        return [process for process in self.processes() if process.parent == self.pid]

    def command(self) -> list[str]:
        """Return the command line; further arguments may follow."""
        return [str(script(self.name)), "--config-file", str(self._installation.configuration)]

    def start(self, *arguments: str) -> None:
        """Start the command; return at once."""
        if self.running:
            raise CommandFailed(f"{self.name} runs already")
        if self._process is not None:
            # Only as long as somebody is left in it a session keeps its number.
            self._earlier = [n for n in (*self._earlier, self.pid) if session(n)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *self.command(), *arguments],
                cwd=self._installation.directory,
                env=self._installation.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if self not in self._installation.started:
            self._installation.started.append(self)

    def start_until_served(self) -> None:
        """Start the API and wait until it answers.

        Workers of a master that was killed hold the port until they notice; a command that ends
        for that reason is started again, as a service manager does.
        """
        end = time.monotonic() + START_TIMEOUT_S
        with contextlib.closing(self._installation.client(timeout_s=5.0)) as client:
            self.start()
            while True:
                # It has workers only once it has the port, until then others may answer.
                with contextlib.suppress(Lost):
                    if self.children() and client.get("/").status == 200:
                        return
                if time.monotonic() > end:
                    raise CommandFailed(f"{self.name} does not answer:\n{self.said()}")
                if not self.running:
                    self.start()
                time.sleep(LOOK_S)

    def start_until_working(self, workers: int) -> None:
        """Start metricd and wait until so many processing workers of its own have joined."""
        before = self._members()
        self.start()
        end = time.monotonic() + START_TIMEOUT_S
        while len(self._members() - before) < workers:
            if not self.running or time.monotonic() > end:
                raise CommandFailed(f"{self.name} does not work:\n{self.said()}")
            time.sleep(LOOK_S)

    def _members(self) -> set[str]:
        with contextlib.closing(self._installation.client()) as client:
            status = client.document("/v1/status", details="false")
        return set(status["metricd"]["processors"])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all processes."""
        for process in self.processes():
            send(process, number)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait for the master process to end; return its status."""
        if self._process is None:
            raise CommandFailed(f"{self.name} has not been started")
        return self._process.wait(timeout_s)

    def stop(self) -> None:
        """End it in order, and what is left of it at once. Nothing happens when it has ended."""
        if self._process is None:
            return
        if self.running:
            self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """Kill all processes."""
        while self.processes():
            self.signal(signal.SIGKILL)
        self.wait()

    def said(self, characters: int = 4000) -> str:
        """Return the end of what it wrote."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-characters:]


@contextlib.contextmanager
def installation(
    options: Mapping[str, Mapping[str, object]] | None = None,
    *,
    arguments: Sequence[str] = (),
    parent: str | None = None,
) -> Iterator[Installation]:
    """Make an empty installation; stop what runs of it and remove it at the end.

    Args:
        options: by group, on top of addresses and paths.
        arguments: for ``gnocchi-upgrade``.
        parent: where to make the directory; by default where temporary ones are made.
    """
    directory = pathlib.Path(tempfile.mkdtemp(prefix="gnocchi-run-", dir=parent))
    made = Installation(directory, reserve_port())
    made.data.mkdir()
    made.configure(options or {})
    try:
        made.upgrade(*arguments)
        yield made
    finally:
        made.stop()
        shutil.rmtree(directory, ignore_errors=True)
