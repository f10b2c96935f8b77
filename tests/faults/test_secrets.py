"""No secret of the configuration is ever shown: what commands write, and what clients are told.

Every run has all secrets in its configuration, logs all options, and has one server that refuses
them, that is not there, or whose URL is malformed around them.
"""

from __future__ import annotations

import base64
import contextlib
import os
import pathlib
import shutil
import struct
import subprocess
import sysconfig
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from gnocchi.config import prepare
from gnocchi.errors import Misconfigured
from tests import servers
from tests.acceptance.client import Client, Lost
from tests.conftest import do_without, require
from tests.faults.commands import FUNCTIONS, Command
from tests.servers.tls import refuser

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The two halves of each secret; what is between them has to be percent-encoded in URLs.
FIRST, SECOND = "Zq7vKr3tWm9x", "Hn4pLd8sYc2g"
SECRET = f"{FIRST}/@:{SECOND}"
ENCODED = quote(SECRET, safe="")
#: In S3, keys have no such characters.
KEY = FIRST + SECOND
#: A key of Ceph: kind, time, length, and 16 bytes that nobody else has.
CEPH_BYTES = SECOND.encode()[:8] * 2
CEPH_KEY = base64.b64encode(struct.pack("<HIIH", 1, 1, 1, 16) + CEPH_BYTES).decode()

NOBODY = "127.0.0.1:1"


def spellings() -> set[bytes]:
    """What must not be found in anything that is shown."""
    found = {CEPH_KEY[16:].encode()}
    for half in (FIRST.encode(), SECOND.encode()):
        found.add(half)
        for shift in range(3):  # base64 in any position, without what depends on neighbours
            encoded = base64.b64encode(b"\0" * shift + half)
            found.add(encoded[4 if shift else 0 : -4])
    return found


SPELLINGS = spellings()


def shown(text: bytes) -> list[bytes]:
    """Lines that show a part of a secret."""
    return [line for line in text.splitlines() if any(part in line for part in SPELLINGS)]


def test_parts_of_secrets_are_recognized() -> None:
    assert all(len(part) >= 12 for part in SPELLINGS)
    for shift in range(3):
        assert shown(base64.b64encode(b"x" * shift + SECRET.encode() + b"y"))
    assert shown(f"the password {ENCODED}".encode())
    assert not shown(b"the password ***")


Options = dict[str, dict[str, str]]

#: Those of everything that the run is not about, which have secrets nonetheless.
SECRETS: dict[str, str] = {
    "redis_url": f"redis://:{ENCODED}@{NOBODY}?socket_timeout=2",
    "swift_key": SECRET,
    "swift_preauthtoken": SECRET,
    "swift_authurl": f"http://{NOBODY}/auth/v1.0",
    "swift_timeout": "3",
    "ceph_secret": CEPH_KEY,
    "ceph_timeout": "1",
    "s3_access_key_id": KEY,
    "s3_secret_access_key": KEY,
    "s3_endpoint_url": f"http://{NOBODY}",
}


@dataclass(frozen=True)
class Run:
    """A configuration that cannot work.

    Attributes:
        told: what the operator is told, by any of the commands.
        storage: options of [storage]; a word that begins with % stands for an address.
        options: of other sections.
        commands: those that fail with it.
    """

    name: str
    told: str
    storage: dict[str, str] = field(default_factory=dict)
    options: Options = field(default_factory=dict)
    commands: tuple[str, ...] = tuple(FUNCTIONS)

    def __str__(self) -> str:
        return self.name


def storage(name: str, told: str, **options: str) -> Run:
    return Run(name, told, options)


def indexer(name: str, told: str, url: str) -> Run:
    return Run(name, told, options={"indexer": {"url": url}})


def coordinated(name: str, told: str, url: str) -> Run:
    """Only the processing workers need it."""
    options = {"DEFAULT": {"coordination_url": url}}
    return Run(name, told, options=options, commands=("gnocchi-metricd",))


RUNS = [
    # databases
    indexer("PostgreSQL refuses", "authentication failed", f"postgresql://gnocchi:{ENCODED}@%pg/x"),
    indexer("PostgreSQL is away", "refused", f"postgresql://gnocchi:{ENCODED}@{NOBODY}/x"),
    indexer("PostgreSQL, not encoded", "no number", f"postgresql://gnocchi:{SECRET}@{NOBODY}/x"),
    indexer(
        "PostgreSQL, two @", "out of place", f"postgresql://gnocchi:x@{FIRST}/{SECOND}@{NOBODY}/x"
    ),
    indexer(
        "PostgreSQL, a colon", "no number", f"postgresql://gnocchi:x@{FIRST}:{SECOND}@{NOBODY}/x"
    ),
    indexer(
        "PostgreSQL, an option",
        "is none of psycopg2",
        f"postgresql://gnocchi:{ENCODED}@{NOBODY}/x?{KEY}=1",
    ),
    indexer("MariaDB refuses", "Access denied", f"mysql://gnocchi:{ENCODED}@%maria/x"),
    indexer("MariaDB is away", "refused", f"mysql://gnocchi:{ENCODED}@{NOBODY}/x"),
    indexer("MariaDB, as an option", "refused", f"mysql://gnocchi@{NOBODY}/x?password={KEY}"),
    indexer("a database nobody knows", "is not one of", f"oracle://gnocchi:{ENCODED}@{NOBODY}/x"),
    indexer("no URL", "is not a database URL", SECRET),
    indexer("a name behind a $", r"write $$", f"mysql://gnocchi:x${KEY}@{NOBODY}/x"),
    Run(
        "the older option of the database",
        "refused",
        options={
            "indexer": {"url": "<None>"},
            "database": {"connection": f"mysql://gnocchi:{ENCODED}@{NOBODY}/x"},
        },
    ),
    # coordination
    coordinated("coordination refuses", "invalid username-password", f"redis://:{KEY}@%redis"),
    coordinated("coordination is away", "refused", f"redis://:{KEY}@{NOBODY}"),
    coordinated(
        "coordination, sentinel", "no sentinel", f"redis://:{KEY}@{NOBODY}?sentinel=m"
        f"&sentinel_password={KEY}",
    ),
    coordinated("coordination, not encoded", "percent-encoded", f"redis://:{SECRET}@{NOBODY}"),
    coordinated("coordination, port", "percent-encoded", f"redis://:x@h:{KEY}"),
    coordinated("coordination, MySQL", "refused", f"mysql://gnocchi:{ENCODED}@{NOBODY}/x"),
    coordinated("coordination, PostgreSQL", "refused", f"postgresql://u:{ENCODED}@{NOBODY}/x"),
    coordinated("coordination, nobody knows", "no usable driver", f"consul2://u:{ENCODED}@h"),
    # drivers
    storage("Redis refuses", "WRONGPASS", driver="redis", redis_url=f"redis://:{ENCODED}@%redis"),
    storage("Redis is away", "refused", driver="redis"),
    storage("Redis, not encoded", "redis_url", driver="redis", redis_url=f"redis://:{SECRET}@h"),
    storage(
        "Redis, sentinel", "no sentinel", driver="redis",
        redis_url=f"redis://:{ENCODED}@{NOBODY}?sentinel=m&sentinel_password={KEY}",
    ),
    storage(
        "Swift refuses", "refuses the credentials", driver="swift",
        swift_authurl="http://%refuser/auth/v1.0",
    ),
    storage(
        "Swift refuses the token", "lacks the permission", driver="swift",
        swift_authurl="http://%refuser/auth/v1.0", swift_url="http://%refuser/v1/AUTH_x",
    ),
    storage(
        "Keystone refuses Swift", "refuses the credentials", driver="swift", swift_auth_version="3",
        swift_authurl="http://%refuser/v3", swift_user="x:x",
    ),
    storage("Swift is away", "refused", driver="swift"),
    storage("S3 refuses", "refuses the cred", driver="s3", s3_endpoint_url="http://%refuser"),
    storage("S3 is away", "Could not connect", driver="s3"),
    storage("S3, odd keys", "characters that no key has", driver="s3", s3_access_key_id=f"{KEY}é"),
    storage("Ceph is away", "Unable to connect", driver="ceph", ceph_conffile="%ceph"),
    storage(
        "Ceph, no key", "ceph_secret is malformed", driver="ceph", ceph_conffile="%ceph",
        ceph_secret=KEY,
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where those are that refuse."""
    require(servers.postgresql_programs(), servers.POSTGRESQL)
    require(servers.mariadb_programs(), servers.MARIADB)
    require(servers.redis_programs(), servers.REDIS)
    # A monitor that is not there, of a cluster that logs whatever there is to be logged.
    ceph = tmp_path_factory.mktemp("ceph") / "ceph.conf"
    ceph.write_text(
        f"[global]\nmon_host = v2:{NOBODY}\nlog_file = {ceph.parent}/log\nlog_to_stderr = true\n"
        "err_to_stderr = true\ndebug_auth = 20\ndebug_monc = 20\n"
    )
    with (
        servers.postgresql(tls=True) as postgresql,
        servers.mariadb() as mariadb,
        servers.redis(password="another") as redis,
        refuser() as port,
    ):
        yield {
            "%pg": f"127.0.0.1:{postgresql.port}",
            "%maria": f"127.0.0.1:{mariadb.port}",
            "%redis": f"127.0.0.1:{redis.port}",
            "%refuser": f"127.0.0.1:{port}",
            "%ceph": str(ceph),
        }


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The data of an installation that is ready to be used."""
    directory = tmp_path_factory.mktemp("upgraded")
    file = write(directory, Run("works", ""), {})
    with Command("gnocchi-upgrade", ["--config-file", str(file)], directory) as command:
        assert command.wait() == 0, command.said()
    return directory / "data"


def write(directory: pathlib.Path, run: Run, addresses: dict[str, str]) -> pathlib.Path:
    """The configuration of a run, in a file."""
    data = directory / "data"
    data.mkdir(exist_ok=True)
    sections: Options = {
        "DEFAULT": {
            "debug": "true",
            "log_options": "true",
            "coordination_url": f"file://{data}/coordination",
        },
        "api": {"port": str(servers.reserve_port()), "processes": "1"},
        "indexer": {"url": f"sqlite:///{data}/indexer.sqlite"},
        "database": {"connection": f"mysql://gnocchi:{ENCODED}@{NOBODY}/x"},
        "storage": {"driver": "file", "file_basepath": str(data), **SECRETS, **run.storage},
        "incoming": {},
        "keystone_authtoken": {"password": SECRET},
    }
    for name, options in run.options.items():
        sections[name] |= options
    lines = []
    for name, options in sections.items():
        lines.append(f"[{name}]")
        lines += [f"{option} = {value}" for option, value in options.items() if value != "<None>"]
    text = "\n".join(lines) + "\n"
    for name, address in addresses.items():
        text = text.replace(name, address)
    file = directory / "gnocchi.conf"
    file.write_text(text)
    return file


def run_all(run: Run, directory: pathlib.Path, file: pathlib.Path) -> dict[str, bytes]:
    """What every command says that ends, or waits for a server; they run side by side."""
    common = ["--config-file", str(file)]
    said = {}
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(
                Command(name, [*common, *(["4"] if "sack" in name else [])], directory)
            )
            for name in run.commands
        ]
        for command in running:
            assert command.wait() != 0, command.said()
            said[command.name] = command.said()
    return said


@pytest.mark.parametrize("run", RUNS, ids=str)
def test_commands_do_not_show_secrets(
    run: Run, addresses: dict[str, str], upgraded: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    shutil.copytree(upgraded, tmp_path / "data")
    file = write(tmp_path, run, addresses)
    said = run_all(run, tmp_path, file)
    for name, text in said.items():
        assert shown(text) == [], name
        assert b"Traceback" not in text, (name, text)
    assert any(run.told.encode() in text for text in said.values()), said
    log = pathlib.Path(addresses["%ceph"]).with_name("log")
    assert not log.exists() or shown(log.read_bytes()) == []


# -------------------------------------------------------------------- what clients are told


@contextlib.contextmanager
def serving(directory: pathlib.Path, run: Run) -> Iterator[tuple[Client, Command]]:
    """The API of a configuration, from when it answers."""
    file = write(directory, run, {})
    lines = file.read_text().splitlines()
    port = next(int(line.rpartition(" ")[2]) for line in lines if line.startswith("port = "))
    with Command("gnocchi-api", ["--config-file", str(file)], directory) as command:
        client = Client(port, timeout_s=40)
        end = time.monotonic() + 30
        while True:
            try:
                client.get("/")
                break
            except Lost:
                assert time.monotonic() < end, command.said()
                time.sleep(0.05)
        try:
            yield client, command
        finally:
            client.close()


def test_clients_are_told_no_secrets_when_servers_fail(tmp_path: pathlib.Path) -> None:
    require(servers.mariadb_programs(), servers.MARIADB)
    require(servers.redis_programs(), servers.REDIS)
    with servers.mariadb() as mariadb, servers.redis(password=SECRET) as redis:
        engine = sa.create_engine(mariadb.url)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE DATABASE secrets")
            connection.exec_driver_sql(f"SET PASSWORD = PASSWORD('{SECRET}')")
        engine.dispose()
        run = Run(
            "works",
            "",
            {"driver": "redis", "redis_url": f"redis://:{ENCODED}@127.0.0.1:{redis.port}"},
            {
                "indexer": {"url": f"mysql://gnocchi:{ENCODED}@127.0.0.1:{mariadb.port}/secrets"},
                "DEFAULT": {"coordination_url": "<None>"},
            },
        )
        file = write(tmp_path, run, {})
        with Command("gnocchi-upgrade", ["--config-file", str(file)], tmp_path) as upgrade:
            assert upgrade.wait() == 0, upgrade.said()
        with serving(tmp_path, run) as (client, command):
            metric = client.create("/v1/metric", {"archive_policy_name": "low"})["id"]
            client.push({metric: [{"timestamp": 0, "value": 1}]})
            redis.kill()
            measures = {metric: [{"timestamp": 1, "value": 1}]}
            answers = [client.post("/v1/batch/metrics/measures", measures)]
            mariadb.kill()
            answers.append(client.post("/v1/metric", {"archive_policy_name": "low"}))
            for answer in answers:
                assert answer.status == 503, answer
                assert shown(answer.body) == [], answer
                assert b"127.0.0.1" in answer.body, answer  # it says what is away
            said = command.said() + upgrade.said()
        assert shown(said) == []


@pytest.mark.parametrize("refuses", [True, False], ids=["refuses", "is away"])
def test_nothing_shows_secrets_when_keystone_does_not_serve(
    refuses: bool, upgraded: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    shutil.copytree(upgraded, tmp_path / "data")
    with refuser() as port:
        where = f"127.0.0.1:{port}" if refuses else NOBODY
        options = {
            "auth_type": "password",
            "auth_url": f"http://{where}/v3",
            "www_authenticate_uri": f"http://{where}/v3",
            "username": "gnocchi",
            "password": SECRET,
            "project_name": "service",
            "user_domain_id": "default",
            "project_domain_id": "default",
            "http_request_max_retries": "0",
        }
        run = Run("", "", {}, {"api": {"auth_mode": "keystone"}, "keystone_authtoken": options})
        with serving(tmp_path, run) as (client, command):
            client._headers = {"X-Auth-Token": f"gAAAAAB{KEY}"}
            answer = client.get("/v1/metric")
            assert answer.status in (401, 503), answer
            assert shown(answer.body) == []
            time.sleep(0.2)
            said = command.said()
        assert b"eystone" in said or b"dentity" in said
        assert shown(said) == [], said


# -------------------------------------------------------------------- what scripts print


def printed(name: str, *arguments: str) -> bytes:
    """What an installed script prints with secrets in its environment."""
    script = pathlib.Path(sysconfig.get_path("scripts")) / name
    if not script.exists():
        do_without(f"not installed: {name}")
    environment = {
        **os.environ,
        "PYTHONPATH": str(pathlib.Path(__file__).parents[2]),
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": KEY,
        "GNOCCHI_INDEXER_URL": f"mysql://gnocchi:{ENCODED}@{NOBODY}/x",
        "OS_STORAGE__SWIFT_KEY": SECRET,
        "OS_DEFAULT__COORDINATION_URL": f"redis://:{KEY}@{NOBODY}",
    }
    done = subprocess.run(
        [script, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("name", FUNCTIONS)
def test_help_does_not_show_secrets(name: str) -> None:
    text = printed(name, "--help")
    assert b"usage: " in text
    assert shown(text) == []


@pytest.mark.parametrize("form", ["ini", "json", "yaml"])
def test_sample_of_the_configuration_does_not_show_secrets(form: str) -> None:
    text = printed("gnocchi-config-generator", "--format", form)
    assert b"s3_secret_access_key" in text
    assert shown(text) == []


def test_secrets_of_the_environment_are_used_and_not_logged(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "gnocchi.conf"
    file.write_text(
        f"[DEFAULT]\ndebug = true\n[storage]\nfile_basepath = {tmp_path}\n"
        f"[indexer]\nurl = sqlite:///{tmp_path}/indexer.sqlite\n"
    )
    text = printed("gnocchi-upgrade", "--config-file", str(file))
    assert shown(text) == []
    for option in ("storage.s3_secret_access_key", "storage.swift_key", "coordination_url"):
        (line,) = (line for line in text.decode().splitlines() if f" {option} " in line)
        assert line.endswith("= ****")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f" swift_key = {KEY}\n", "line 1: Unexpected continuation line"),
        (f"[storage]\nswift_key {KEY}\n", "line 2: No ':' or '=' found"),
        (f"[storage]\nswift_key = x${KEY}\n", r"\[storage\] swift_key: .* write \$\$"),
        (f"[storage]\nswift_key = x${{{KEY}}}\n", r"\[storage\] swift_key: .* write \$\$"),
        (f"[storage]\nswift_key = $api.{KEY}\n", r"\[storage\] swift_key: .* write \$\$"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_without_its_line(
    text: str, told: str, tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "gnocchi.conf"
    file.write_text(text)
    with pytest.raises(Misconfigured, match=told) as caught:
        prepare(files=[str(file)], middleware=False)
    assert shown(str(caught.value).encode()) == []


def test_dollar_in_a_secret_stays_what_it_is(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one section, or the environment, stands for another."""
    file = tmp_path / "gnocchi.conf"
    file.write_text("[storage]\nswift_key = one$$two\n")
    monkeypatch.setenv("GNOCCHI_INDEXER_URL", "mysql://me:one$two@host/name")
    conf = prepare(files=[str(file)], middleware=False)
    assert conf.storage.swift_key == conf.incoming.swift_key == "one$two"
    assert conf.indexer.url == "mysql://me:one$two@host/name"
