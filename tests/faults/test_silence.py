"""Servers that accept connections and say nothing: whoever answers clients gives them up in time.

Options of drivers are left as they are; they allow for ten seconds to five minutes.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from gnocchi import config, errors, service
from gnocchi.indexer import catalog
from tests import servers
from tests.conformance.models import SACKS
from tests.conformance.points import in_sacks
from tests.conftest import require

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator

    from gnocchi.config import Configuration

GIVE_UP_S = 2.0
LONGEST_S = 3.9  # two waits, one after the other, would take longer

#: Of [storage] and [incoming], with the address of the server.
DRIVERS = {
    "redis": ["redis_url = redis://{address}"],
    "redis that is asked twice": ["redis_url = redis://{address}?retry_on_timeout=true"],
    "redis behind sentinels": ["redis_url = redis://{address}?sentinel=master"],
    "s3": [
        "s3_endpoint_url = http://{address}",
        "s3_access_key_id = a",
        "s3_secret_access_key = b",
    ],
    "swift": ["swift_authurl = http://{address}/auth/v1.0", "swift_user = a:b", "swift_key = c"],
    "swift with keystone": [
        "swift_authurl = http://{address}/v3",
        "swift_auth_version = 3",
        "swift_user = a",
        "swift_key = c",
        "swift_project_name = p",
    ],
    "ceph": [
        "ceph_conffile = {directory}/ceph.conf",
        "ceph_secret = AQAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA==",
    ],
}
DATABASES = ["postgresql://g:secret@{address}/g", "mysql+pymysql://g:secret@{address}/g"]


@pytest.fixture
def address() -> Iterator[str]:
    """Of a server that lets everybody connect."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        yield f"127.0.0.1:{silent.getsockname()[1]}"


def configured(directory: pathlib.Path, *lines: str) -> Configuration:
    path = directory / "gnocchi.conf"
    path.write_text("\n".join(lines) + "\n")
    return config.prepare([], files=[str(path)], middleware=False)


def fails_in_time(call: Callable[[], object]) -> None:
    began = time.monotonic()
    with pytest.raises(errors.Unavailable) as caught:
        call()
    assert time.monotonic() - began < LONGEST_S
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", DRIVERS)
def test_silent_store_is_given_up_in_time(name: str, address: str, tmp_path: pathlib.Path) -> None:
    driver = name.partition(" ")[0]
    if driver == "ceph":
        require(servers.ceph_programs(), servers.CEPH)
        (tmp_path / "ceph.conf").write_text(f"[global]\nmon_host = {address}\n")
    lines = [line.format(address=address, directory=tmp_path) for line in DRIVERS[name]]
    conf = configured(tmp_path, "[storage]", f"driver = {driver}", *lines)
    storage = service.load_storage(conf, GIVE_UP_S)
    incoming = service.load_incoming(conf, SACKS, GIVE_UP_S)
    fails_in_time(lambda: storage.read("name", 0, 4))
    fails_in_time(lambda: incoming.add(in_sacks(SACKS, [0], 1.0)))


@pytest.mark.parametrize("url", DATABASES)
def test_silent_database_is_given_up_in_time(
    url: str, address: str, tmp_path: pathlib.Path
) -> None:
    conf = configured(tmp_path, "[indexer]", f"url = {url.format(address=address)}")
    database = service.open_database(conf, GIVE_UP_S)
    for _ in range(2):
        fails_in_time(lambda: catalog.state(database))
    database.close()
