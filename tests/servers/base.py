"""Real servers for tests: started from installed packages, thrown away afterwards.

Each server listens on the loopback address only, keeps everything in one temporary directory, and
runs under the account of its package when the tests run as root. It ends with the ``with`` block,
and through the kernel's parent-death signal also when the test process itself is killed; that
signal follows the *thread* that started the server, so start servers from the main thread.

Only the standard library is used. To add a server, write a module with a context manager around
``sandbox`` that yields a ``Server``, and a function that finds the programs it needs.

What comes from PyPI and must not be mixed with the packages under test gets a virtual environment
of its own, see ``environment``. It is made once and kept outside of the repository, in the
directory ``GNOCCHI_TESTS_CACHE`` names, else in ``gnocchi-tests`` in the user's cache directory.

By hand: ``python -m tests.servers postgresql`` prints the address and stops at Enter.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hashlib
import os
import pathlib
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 20.0
INSTALL_TIMEOUT_S = 900.0

# Below the range the kernel takes ports of outgoing connections from: nobody but us picks here.
PORT_RANGE = (20000, 32000)


class ServerError(Exception):
    """The server did not start; the text ends with what it said."""


@dataclass
class Server:
    """A running server.

    Attributes:
        port: TCP port on 127.0.0.1.
        url: how a client reaches it; for databases, one that may create others.
        directory: everything it stores.
        process: the server itself.
    """

    port: int
    url: str
    directory: pathlib.Path
    process: subprocess.Popen[bytes]


@dataclass
class Restartable(Server):
    """A running server that can be killed and started again, with what it kept.

    Attributes:
        command: that starts it.
        ready: asks it whether it serves.
        ending: the signal that ends it quickly and in order.
    """

    process: subprocess.Popen[bytes] = field(init=False)
    box: Sandbox
    command: list[str | os.PathLike[str]]
    ready: Callable[[], bool]
    ending: signal.Signals = signal.SIGTERM

    def start(self) -> None:
        """Start it, also again."""
        self.process = self.box.start(*self.command, ready=self.ready, stop=self.ending)

    def kill(self) -> None:
        """End it and its children as a failure of power would."""
        for pid in list(tree(self.process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def programs(*names: str, places: tuple[str, ...] = ()) -> dict[str, str]:
    """Find programs in directories (patterns, the highest version first), then in the path.

    Returns:
        The paths of those that exist, by name.
    """
    directories: list[str] = []
    for pattern in places:
        found = pathlib.Path("/").glob(pattern.lstrip("/"))
        directories += [str(path) for path in sorted(found, key=_version, reverse=True)]
    directories += os.environ.get("PATH", os.defpath).split(os.pathsep)
    directories += ["/usr/sbin", "/usr/local/sbin"]  # not in the path of ordinary users
    located = {name: shutil.which(name, path=os.pathsep.join(directories)) for name in names}
    return {name: path for name, path in located.items() if path is not None}


def _version(path: pathlib.Path) -> list[int]:
    return [int(part) for part in path.parts if part.isdigit()]


def reserve_port() -> int:
    """Return a free TCP port that no other test process using this function will get.

    A bound socket in the abstract Unix namespace marks it: taking it is atomic, and the kernel
    gives it up when this process ends, however that happens.
    """
    for port in random.sample(range(*PORT_RANGE), k=2000):
        mark = socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f"\0gnocchi-test-port-{port}")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            mark.close()
            continue
        atexit.register(mark.close)
        return port
    raise ServerError(f"no free port in {PORT_RANGE}")


def environment(name: str, *requirements: str) -> pathlib.Path:
    """Return the ``bin`` directory of a virtual environment that holds these packages.

    The first call installs them, which takes a minute or so; other processes wait for it. Another
    Python or other requirements make another environment, so nothing is ever upgraded in place.

    Raises:
        ServerError: venv or pip failed; the next call tries again.
    """
    configured = os.environ.get("GNOCCHI_TESTS_CACHE")
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    cache = pathlib.Path(configured or os.path.join(caches, "gnocchi-tests"))
    cache.mkdir(parents=True, exist_ok=True)
    content = "\n".join((sys.version, os.path.realpath(sys.executable), *requirements))
    place = cache / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        finished = place / "finished"
        if not finished.exists():
            # What an interrupted installation left has no mark, and is replaced as a whole.
            try:
                venv.create(place, clear=True, with_pip=True)
            except (subprocess.CalledProcessError, OSError) as error:
                raise ServerError(f"no virtual environment in {place}: {error}") from error
            _install(place / "bin" / "python", requirements)
            finished.touch()
    return place / "bin"


def _install(python: pathlib.Path, requirements: tuple[str, ...]) -> None:
    command = [python, "-m", "pip", "install", "--quiet", *requirements]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ServerError(f"pip took more than {INSTALL_TIMEOUT_S:.0f} s") from error
    if done.returncode != 0:
        raise ServerError(f"pip returned {done.returncode}:\n{done.stdout[-4000:]}")


@dataclass
class Sandbox:
    """A temporary directory and the processes that live in it."""

    directory: pathlib.Path
    owner: pwd.struct_passwd | None
    started: list[tuple[subprocess.Popen[bytes], signal.Signals]] = field(default_factory=list)

    def run(self, *command: str | os.PathLike[str]) -> str:
        """Run a command to its end under the account and return what it printed."""
        done = subprocess.run(
            [*self._switch(), *(os.fspath(part) for part in command)],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            raise ServerError(f"{command[0]} returned {done.returncode}:\n{done.stdout[-4000:]}")
        return done.stdout

    def start(
        self,
        *command: str | os.PathLike[str],
        ready: Callable[[], bool],
        stop: signal.Signals = signal.SIGTERM,
    ) -> subprocess.Popen[bytes]:
        """Start a server and wait until ``ready`` says so.

        Args:
            ready: asks the server itself; an OSError counts as no.
            stop: the signal that ends it quickly and in order.
        """
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [*self._switch(die_with_parent=True), *(os.fspath(part) for part in command)],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append((process, stop))
        end = time.monotonic() + START_TIMEOUT_S
        while True:
            with contextlib.suppress(OSError):
                if ready():
                    return process
            if process.poll() is not None or time.monotonic() > end:
                said = (self.directory / "log").read_text(errors="replace")[-4000:]
                raise ServerError(f"{command[0]} is not ready ({process.poll()}):\n{said}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop what was started, the last one first, and whatever it left in its session."""
        for process, how in reversed(self.started):
            if process.poll() is None:
                process.send_signal(how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _switch(self, *, die_with_parent: bool = False) -> list[str]:
        # The death signal is lost when a process changes its user, so setpriv does both, in
        # the right order.
        arguments = ["--pdeathsig", "TERM"] if die_with_parent else []
        if self.owner is not None:
            uid, gid = str(self.owner.pw_uid), str(self.owner.pw_gid)
            arguments += ["--reuid", uid, "--regid", gid, "--init-groups"]
        return ["setpriv", *arguments] if arguments else []


@contextlib.contextmanager
def sandbox(
    name: str, account: str | None, parent: pathlib.Path | None = None
) -> Iterator[Sandbox]:
    """Make a directory that ``account`` owns; stop everything and remove it at the end.

    Args:
        account: ``None`` stands for the user who runs the tests.
        parent: where to make it; by default where temporary ones are made.

    The directory is made here because pytest's own ones cannot be reached by other accounts, and
    because paths of Unix sockets must stay short. An ordinary user cannot change accounts and
    does not need to.
    """
    owner = pwd.getpwnam(account) if account is not None and os.geteuid() == 0 else None
    directory = pathlib.Path(tempfile.mkdtemp(prefix=f"gnocchi-{name}-", dir=parent))
    box = Sandbox(directory, owner)
    try:
        if owner is not None:
            os.chown(directory, owner.pw_uid, owner.pw_gid)
        yield box
    finally:
        box.stop()
        shutil.rmtree(directory, ignore_errors=True)


def tree(pid: int) -> Iterator[int]:
    """A process and its descendants; those of one that is stopped meanwhile are complete."""
    yield pid
    with contextlib.suppress(OSError):  # it has ended
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from tree(int(child))


@contextlib.contextmanager
def paused(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Stop a server and its children for the length of the block, as on a machine that hangs.

    Their connections stay, and the kernel goes on taking what is sent to them.
    """
    stopped = []
    for pid in tree(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)
    try:
        yield
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
