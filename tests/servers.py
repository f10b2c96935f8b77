"""Real servers for tests: started from installed packages, thrown away afterwards.

Each server listens on the loopback address only, keeps everything in one temporary directory, and
runs under the account of its package when the tests run as root. It ends with the ``with`` block,
and through the kernel's parent-death signal also when the test process itself is killed; that
signal follows the *thread* that started the server, so start servers from the main thread.

Only the standard library is used. To add a server, write a context manager around ``sandbox`` that
yields a ``Server``, and a tuple of the programs it needs.

What comes from PyPI and must not be mixed with the packages under test gets a virtual environment
of its own, see ``environment``. It is made once and kept outside of the repository, in the
directory ``GNOCCHI_TESTS_CACHE`` names, else in ``gnocchi-tests`` in the user's cache directory.

By hand: ``python -m tests.servers postgresql`` prints the address and stops at Enter.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import fcntl
import hashlib
import http.client
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
def sandbox(name: str, account: str | None) -> Iterator[Sandbox]:
    """Make a directory that ``account`` owns; stop everything and remove it at the end.

    ``None`` stands for the user who runs the tests.

    The directory is made here because pytest's own ones cannot be reached by other accounts, and
    because paths of Unix sockets must stay short. An ordinary user cannot change accounts and
    does not need to.
    """
    owner = pwd.getpwnam(account) if account is not None and os.geteuid() == 0 else None
    directory = pathlib.Path(tempfile.mkdtemp(prefix=f"gnocchi-{name}-"))
    box = Sandbox(directory, owner)
    try:
        if owner is not None:
            os.chown(directory, owner.pw_uid, owner.pw_gid)
        yield box
    finally:
        box.stop()
        shutil.rmtree(directory, ignore_errors=True)


# ------------------------------------------------------------------ PostgreSQL

POSTGRESQL = ("initdb", "postgres", "pg_isready")


def postgresql_programs() -> dict[str, str]:
    """Find PostgreSQL's programs, which Debian keeps out of the path."""
    return programs(*POSTGRESQL, places=("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"))


@contextlib.contextmanager
def postgresql(*, durable: bool = False) -> Iterator[Server]:
    """Run PostgreSQL; without ``durable`` it never waits for the disk."""
    found = postgresql_programs()
    with sandbox("postgresql", "postgres") as box:
        data, port = box.directory / "data", reserve_port()
        box.run(
            found["initdb"], "--pgdata", data, "--username", "gnocchi", "--auth", "trust",
            "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync",
        )  # fmt: skip
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(box.directory),
            "max_connections": "200",
        }
        if not durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        probe = [found["pg_isready"], "-q", "-h", "127.0.0.1", "-p", str(port)]
        process = box.start(
            found["postgres"], "-D", data, *(f"--{key}={value}" for key, value in settings.items()),
            ready=lambda: subprocess.run(probe, check=False).returncode == 0,
            stop=signal.SIGINT,  # SIGTERM would wait for clients that are still connected
        )  # fmt: skip
        url = f"postgresql+psycopg2://gnocchi@127.0.0.1:{port}/postgres"
        yield Server(port, url, box.directory, process)


# ------------------------------------------------------------------ MariaDB

MARIADB = ("mariadbd", "mariadb-install-db", "mariadb")


def mariadb_programs() -> dict[str, str]:
    """Find MariaDB's programs."""
    return programs(*MARIADB)


@contextlib.contextmanager
def mariadb(*, durable: bool = False) -> Iterator[Server]:
    """Run MariaDB; without ``durable`` it never waits for the disk."""
    found = mariadb_programs()
    with sandbox("mariadb", "mysql") as box:
        data, port, unix_socket = box.directory / "data", reserve_port(), box.directory / "socket"
        # First of all, or the configuration of the machine is mixed in.
        # A server removes what it takes for its own temporary tables when it starts; in a shared
        # directory those of others would go as well.
        own = ["--no-defaults", f"--datadir={data}", f"--tmpdir={box.directory}"]
        box.run(
            found["mariadb-install-db"], *own, "--skip-test-db",
            "--auth-root-authentication-method=normal",
        )  # fmt: skip
        settings = [
            f"--socket={unix_socket}",
            f"--port={port}",
            "--bind-address=127.0.0.1",
            f"--pid-file={box.directory / 'pid'}",
            "--skip-name-resolve",
            "--performance-schema=OFF",
            "--innodb-buffer-pool-size=64M",
            "--innodb-log-file-size=32M",
        ]
        if not durable:
            settings += ["--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync"]
        client = [found["mariadb"], "--no-defaults", f"--socket={unix_socket}", "--user=root"]
        ask = [*client, "--execute=SELECT 1"]
        process = box.start(
            found["mariadbd"], *own, *settings,
            ready=lambda: subprocess.run(ask, capture_output=True, check=False).returncode == 0,
        )  # fmt: skip
        # Not root: an account with a password and over TCP, as in production.
        box.run(
            *client,
            "--execute=CREATE USER gnocchi@'127.0.0.1' IDENTIFIED BY 'secret';"
            "GRANT ALL ON *.* TO gnocchi@'127.0.0.1'",
        )
        url = f"mysql+pymysql://gnocchi:secret@127.0.0.1:{port}/mysql"
        yield Server(port, url, box.directory, process)


# ------------------------------------------------------------------ Keystone

KEYSTONE = ("keystone>=30", "gunicorn>=27")
ADMIN_PASSWORD = "admin-password"

KEYSTONE_CONFIGURATION = """\
[DEFAULT]
log_file = {directory}/keystone.log
[database]
connection = sqlite:///{directory}/keystone.db
[token]
provider = fernet
[fernet_tokens]
key_repository = {directory}/tokens
[fernet_receipts]
key_repository = {directory}/tokens
[credential]
key_repository = {directory}/credentials
[identity]
password_hash_rounds = 4
[cache]
enabled = true
backend = oslo_cache.dict
"""

# Its command takes seconds to import, so one interpreter runs it twice. In between, what the first
# run left behind has to be forgotten.
KEYSTONE_PREPARATION = """\
import sys

from keystone import conf
from keystone.cmd import manage
from keystone.common.provider_api import ProviderAPIs

file, url, password = sys.argv[1:]
sys.argv = ["keystone-manage", "--config-file", file, "db_sync"]
manage.main()
conf.CONF.reset()
ProviderAPIs._clear_registry_instances()
sys.argv[3:] = ["bootstrap", "--bootstrap-password", password]
for which in ("admin", "internal", "public"):
    sys.argv += [f"--bootstrap-{which}-url", url]
sys.argv += ["--bootstrap-region-id", "RegionOne"]
manage.main()
"""

# Keystone reads the command line of whoever loads it, so it must not see that of gunicorn.
KEYSTONE_APPLICATION = """\
import os
import sys

os.environ["OS_KEYSTONE_CONFIG_DIR"] = os.path.dirname(__file__)
os.environ["OS_KEYSTONE_CONFIG_FILES"] = "keystone.conf"
sys.argv = sys.argv[:1]

from keystone.wsgi.api import application
"""


def keystone_programs() -> pathlib.Path:
    """Install Keystone if need be, and give the directory of its programs."""
    return environment("keystone", *KEYSTONE)


@contextlib.contextmanager
def keystone() -> Iterator[Server]:
    """Run Keystone: an administrator ``admin`` of the project ``admin``, and the usual roles."""
    found = keystone_programs()
    with sandbox("keystone", None) as box:
        port = reserve_port()
        url = f"http://127.0.0.1:{port}/v3"
        for repository in ("tokens", "credentials"):
            _make_keys(box.directory / repository)
        file = box.directory / "keystone.conf"
        file.write_text(KEYSTONE_CONFIGURATION.format(directory=box.directory))
        box.run(found / "python", "-c", KEYSTONE_PREPARATION, file, url, ADMIN_PASSWORD)
        (box.directory / "served.py").write_text(KEYSTONE_APPLICATION)
        process = box.start(
            found / "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "1", "--threads", "4",
            "--no-control-socket", "served:application",
            ready=lambda: _answers(port, "/v3"),
        )  # fmt: skip
        yield Server(port, url, box.directory, process)


def _make_keys(repository: pathlib.Path) -> None:
    """Make the staged and the primary key that Keystone expects to find."""
    repository.mkdir(mode=0o700)
    for name in ("0", "1"):
        (repository / name).write_bytes(base64.urlsafe_b64encode(os.urandom(32)))


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except http.client.HTTPException:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    starters = {"postgresql": postgresql, "mariadb": mariadb, "keystone": keystone}
    with starters[sys.argv[1]]() as server:
        sys.stdout.write(server.url + "\n")
        sys.stdout.flush()
        sys.stdin.readline()
