"""Connections by TLS: whom they trust, and what is said when they do not.

Those of the drivers for Redis and Swift are tested with the drivers.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from gnocchi import coordination, errors
from gnocchi.config import prepare
from gnocchi.drivers.s3 import S3Storage
from gnocchi.drivers.s3_connection import Connection
from gnocchi.indexer.database import Database
from tests import servers
from tests.conformance.test_s3 import configuration
from tests.conftest import require
from tests.faults.commands import no_pause
from tests.servers.redis import make_certificates
from tests.servers.tls import tls_front

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

    from gnocchi.config import Configuration
    from tests.servers.base import Restartable
    from tests.servers.tls import Front


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> str:
    """File of an authority that has signed nothing."""
    return f"{make_certificates(tmp_path_factory.mktemp('stranger'))}/ca.crt"


# -------------------------------------------------------------------- databases


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Restartable]:
    require(servers.postgresql_programs(), servers.POSTGRESQL)
    with servers.postgresql(tls=True) as server:
        yield server


@pytest.fixture(scope="module")
def mariadb() -> Iterator[Restartable]:
    require(servers.mariadb_programs(), servers.MARIADB)
    with servers.mariadb(tls=True) as server:
        yield server


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> Restartable:
    """Each kind in turn."""
    server: Restartable = request.getfixturevalue(request.param)
    return server


def verified(server: Restartable, authority: str, host: str = "127.0.0.1") -> str:
    """The URL of a server whose certificate is to be verified."""
    option = f"ssl_ca={authority}"
    if server.url.startswith("postgresql"):
        option = f"sslmode=verify-full&sslrootcert={authority}"
    return server.url.replace("127.0.0.1", host) + f"?{option}"


def authority_of(server: Restartable) -> str:
    return f"{server.directory}/certificates/ca.crt"


def configured(directory: pathlib.Path, text: str) -> Configuration:
    """What a configuration file says."""
    file = directory / "gnocchi.conf"
    file.write_text(text)
    return prepare(files=[str(file)], middleware=False)


def test_database_is_used_by_tls(database: Restartable) -> None:
    db = Database(verified(database, authority_of(database)))
    with db.read() as connection:
        if db.postgresql:
            statement = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            version = connection.exec_driver_sql(statement).scalar()
        else:
            version = connection.exec_driver_sql("SHOW STATUS LIKE 'Ssl_version'").one()[1]
    db.close()
    assert str(version).startswith("TLS")


def test_database_of_an_unknown_authority_is_not_trusted(
    database: Restartable, stranger: str
) -> None:
    db = Database(verified(database, stranger))
    with pytest.raises(errors.Unavailable, match=r"(?i)certificate verify failed") as caught:
        db.check()
    assert "secret" not in str(caught.value)
    db.close()


def test_database_of_another_name_is_not_trusted(database: Restartable) -> None:
    db = Database(verified(database, authority_of(database), "localhost"))
    with pytest.raises(errors.Unavailable, match=r"localhost"):
        db.check()
    db.close()


def test_authority_of_a_database_that_is_not_there_is_told(
    database: Restartable, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(errors.Misconfigured, match=r"\[indexer\] url: ssl\w+: .*/none cannot be"):
        Database(verified(database, f"{tmp_path}/none"))


def test_workers_verify_the_database_they_coordinate_through(
    database: Restartable, stranger: str, tmp_path: pathlib.Path
) -> None:
    """They find one another by the URL of the indexer, and its options hold for that too."""
    text = "[storage]\ndriver = memory\n[incoming]\ndriver = memory\n[indexer]\nurl = "
    conf = configured(tmp_path, text + verified(database, authority_of(database)))
    coordinator = coordination.connect(conf, "here")
    with coordinator.sacks([1], 4) as mine:
        assert mine == [1]
    coordinator.stop()
    conf = configured(tmp_path, text + verified(database, stranger))
    with pytest.raises(errors.Unavailable, match=r"(?i)certificate verify failed"):
        coordination.connect(conf, "there")


# -------------------------------------------------------------------- Redis, for coordination


def test_workers_coordinate_through_the_redis_of_the_driver(
    tmp_path: pathlib.Path, stranger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By TLS, and with a password that has to be percent-encoded in a URL."""
    require(servers.redis_programs(), (*servers.REDIS, "openssl"))
    monkeypatch.setattr("redis.retry.sleep", no_pause)
    with servers.redis(password=servers.REDIS_PASSWORD, tls=True) as server:
        password = quote(servers.REDIS_PASSWORD, safe="")
        url = f"rediss://:{password}@127.0.0.1:{server.port}"
        text = f"[storage]\ndriver = redis\nredis_url = {url}?ssl_ca_certs="
        conf = configured(tmp_path, f"{text}{server.certificates}/ca.crt\n")
        coordinator = coordination.connect(conf, "here")
        with coordinator.sacks([1], 4) as mine:
            assert mine == [1]
        coordinator.stop()
        with pytest.raises(errors.Unavailable, match=r"(?i)certificate verify failed"):
            coordination.connect(configured(tmp_path, text + stranger), "there")


# -------------------------------------------------------------------- S3


@pytest.fixture(scope="module")
def s3_front(radosgw_server: servers.CephServer) -> Iterator[Front]:
    with tls_front(int(radosgw_server.s3_url.rpartition(":")[2])) as front:
        yield front


@contextlib.contextmanager
def trusting(authority: str | os.PathLike[str] | None) -> Iterator[None]:
    """Name the authority to trust for S3."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_CA_BUNDLE", raising=False)
        if authority is not None:
            patch.setenv("AWS_CA_BUNDLE", os.fspath(authority))
        yield


def test_s3_is_used_by_tls(s3_front: Front) -> None:
    with trusting(s3_front.authority):
        storage = S3Storage(configuration(f"https://127.0.0.1:{s3_front.port}"))
        storage.upgrade()
        storage.put("x", b"content")
        assert storage.read("x", 0, 7) == b"content"


@pytest.mark.parametrize("named", [True, False], ids=["another", "none"])
def test_s3_of_an_unknown_authority_is_not_trusted(
    s3_front: Front, stranger: str, named: bool
) -> None:
    with trusting(stranger if named else None):
        storage = S3Storage(configuration(f"https://127.0.0.1:{s3_front.port}"))
        with pytest.raises(errors.Unavailable, match=r"not trusted .*AWS_CA_BUNDLE") as caught:
            storage.upgrade()
    assert "\n" not in str(caught.value)


def test_s3_of_another_name_is_not_trusted(s3_front: Front) -> None:
    with trusting(s3_front.authority):
        storage = S3Storage(configuration(f"https://localhost:{s3_front.port}"))
        with pytest.raises(errors.Unavailable, match="not trusted"):
            storage.upgrade()


def test_authority_of_s3_that_is_not_there_is_told(tmp_path: pathlib.Path) -> None:
    with trusting(tmp_path / "none"), pytest.raises(errors.Misconfigured, match="AWS_CA_BUNDLE"):
        S3Storage(configuration("https://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-west-3", "t-aggregates.s3.eu-west-3.amazonaws.com"),
        ("cn-north-1", "t-aggregates.s3.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_region_decides_where_s3_is_and_what_is_signed(region: str, host: str) -> None:
    conf = configuration("", s3_region_name=region, s3_bucket_prefix="t")
    sent: list[Any] = []

    def keep(request: Any, **_: object) -> None:
        sent.append(request)
        raise ConnectionRefusedError

    client = Connection(conf).client
    client.meta.events.register("before-send.s3", keep)
    with pytest.raises(ConnectionRefusedError):
        client.list_objects_v2(Bucket="t-aggregates")
    assert f"https://{host}/" in sent[0].url
    assert f"/{region}/s3/aws4_request" in sent[0].headers["Authorization"].decode()
