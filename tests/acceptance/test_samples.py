"""Configurations of operators of earlier releases start the installed commands as they are.

Only paths, addresses, accounts and secrets are those of the test. Each old name in them is reported
once by a command that uses it, with the name it has now.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import pathlib
import re
import socket
import urllib.error
import urllib.request
import uuid
from typing import TYPE_CHECKING, Any

import pytest

import gnocchi
from tests import backends, samples, servers
from tests.acceptance.site import PYTHON, SCRIPTS, TIMEOUT_S, Site, request, until
from tests.acceptance.test_commands import CALL, post
from tests.clients.accounts import Accounts
from tests.conftest import create_database, drop_database, require
from tests.servers import coordination as other_servers

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "GNOCCHI_PASS"
CEPH_AND_KEYSTONE = """\
[DEFAULT]
create_legacy_resource_types = True

[database]
connection = {url}

[indexer]
url = {url}

[keystone_authtoken]
auth_uri = {keystone}
auth_url = {keystone}
memcached_servers = 127.0.0.1:{memcached}
auth_type = password
project_domain_name = Default
user_domain_name = Default
project_name = service
username = {user}
password = {password}

[oslo_messaging_rabbit]
rabbit_host = controller
rabbit_userid = openstack
rabbit_password = RABBIT_PASS

[storage]
driver = ceph
ceph_pool = {ceph.pool}
ceph_username = {ceph.user}
ceph_conffile = {ceph.configuration}
ceph_keyring = {ceph.keyring}
ceph_secret = {ceph.secret}
"""

SWIFT = """\
[storage]
driver = swift
file_basepath = {directory}/data
swift_auth_version = 1
swift_auth_insecure = false
swift_preauthurl = {storage_url}
swift_authurl = {server.auth_url}
swift_user = {user}
swift_user_domain_name = Default
swift_key = {key}
swift_tenant_name =
swift_project_domain_name = Default
swift_container_prefix = {prefix}
swift_endpoint_type = publicURL
swift_service_type = object-store
swift_timeout = 300
"""


def warned(text: str) -> list[str]:
    """The warnings of this program in a log."""
    return [line for line in text.splitlines() if re.search(r" WARNING +gnocchi", line)]


def warned_once(text: str, old: str, new: str) -> None:
    """One warning has the old name, and that one has the new name too."""
    found = [line for line in warned(text) if re.search(rf"\b{old}\b", line)]
    assert len(found) == 1, text
    assert new in found[0]


def ask(url: str, token: str | None, body: Any = None) -> Any:
    """Send a request with a token of Keystone; return the answer, or the status of an error."""
    headers = {"Content-Type": "application/json"} | ({"X-Auth-Token": token} if token else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        sent = urllib.request.Request(url, data=data, headers=headers)
        with urllib.request.urlopen(sent, timeout=TIMEOUT_S) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except (urllib.error.URLError, ConnectionError):
        return None
    return json.loads(text) if text else None


# ------------------------------------------------------------------ files, of 2017


def test_files_of_2017(site: Site, port: int, postgresql_server: servers.Server) -> None:
    url = create_database(postgresql_server)
    plain = url.replace("postgresql+psycopg2", "postgresql")
    site.configuration.write_text(samples.FILES.format(url=plain, directory=site.directory))
    try:
        upgraded = site.execute(site.arguments("gnocchi-upgrade"))
        assert upgraded.returncode == 0, upgraded.stderr
        assert "Upgrading indexer postgresql" in upgraded.stderr
        assert f"Upgrading storage file {site.data}" in upgraded.stderr
        api = site.arguments("gnocchi-api", "--port", str(port))
        metricd = site.arguments("gnocchi-metricd")
        with site.spawn(api, "api") as serving, site.spawn(metricd, "metricd") as processing:
            until(lambda: request(f"http://127.0.0.1:{port}/v1/metric") == [], "API")
            assert len(serving.children()) == 1
            measures = post(f"http://127.0.0.1:{port}", 1, 2, 6)
            found = until(lambda: request(f"{measures}?aggregation=mean"), "aggregates")
            assert found == [["2023-11-14T22:10:00+00:00", 300.0, 3.0]]
            assert processing.stop() == 0
            assert serving.stop() == 0
            assert (site.directory / "locks").is_dir()
            for text in upgraded.stderr, serving.text, processing.text:
                warned_once(text, "workers", "processes")
                where = '"coordination_url" from group "DEFAULT"'
                warned_once(text, "coordination_url", where)
    finally:
        drop_database(postgresql_server, url)


# ------------------------------------------------------------------ MariaDB, Ceph, Keystone


@pytest.fixture(scope="module")
def memcached_server() -> Iterator[servers.Server]:
    """Where tokens are cached that have been validated."""
    require(other_servers.memcached_programs(), other_servers.MEMCACHED)
    with other_servers.memcached() as server:
        yield server


def writes(memcached: servers.Server) -> int:
    """How often something was written to a memcached."""
    with socket.create_connection(("127.0.0.1", memcached.port), TIMEOUT_S) as connection:
        connection.sendall(b"stats\r\nquit\r\n")
        text = connection.makefile().read()
    return int(text.partition("STAT cmd_set ")[2].split()[0])


@pytest.fixture
def openstack(
    site: Site,
    mariadb_server: servers.Server,
    ceph_server: servers.CephServer,
    keystone_server: servers.Server,
    memcached_server: servers.Server,
) -> Iterator[str]:
    """The files of release 3.0 in place; gives a token of somebody."""
    backends.empty_ceph(ceph_server)
    url = create_database(mariadb_server)
    service = f"gnocchi-{uuid.uuid4().hex[:8]}"
    text = CEPH_AND_KEYSTONE.format(
        url=url,
        keystone=keystone_server.url,
        memcached=memcached_server.port,
        user=service,
        password=PASSWORD,
        ceph=ceph_server,
    )
    site.configuration.write_text(text)
    (site.directory / "api-paste.ini").write_text(samples.PASTE.format(main="gnocchi+auth"))
    with contextlib.closing(Accounts(keystone_server)) as accounts:
        accounts.user(service, PASSWORD, "service", "service")
        name = f"u{uuid.uuid4().hex[:8]}"
        accounts.user(name, PASSWORD, name, "admin")
        session = accounts.session(name, PASSWORD, name)
        token = session.get_token()
        session.session.close()
    yield token
    drop_database(mariadb_server, url)


def test_ceph_and_keystone_of_release_3(
    site: Site, port: int, openstack: str, memcached_server: servers.Server
) -> None:
    upgraded = site.execute(site.arguments("gnocchi-upgrade"))
    assert upgraded.returncode == 0, upgraded.stderr
    assert warned(upgraded.stderr) == []
    assert "Upgrading indexer mysql+pymysql://" in upgraded.stderr
    assert "Upgrading storage ceph" in upgraded.stderr
    log = site.directory / "gnocchi-metricd.log"
    # as in the sample: the options behind a lone --
    options = ["--log-file", str(site.directory / "api.log")]
    options += ["--config-file", str(site.configuration)]
    api = [str(SCRIPTS / "gnocchi-api"), "--port", str(port), "--", *options]
    metricd = site.arguments("gnocchi-metricd", "--log-file", str(log))
    # Not the loopback address: who asks Keystone serves everybody.
    url = f"http://127.0.0.2:{port}"
    with site.spawn(api, "api") as serving, site.spawn(metricd, "metricd") as processing:
        until(lambda: ask(f"{url}/v1/metric", openstack) == [], "API")
        assert ask(f"{url}/v1/metric", None) == 401
        types = {kind["name"] for kind in ask(f"{url}/v1/resource_type", openstack)}
        assert {"generic", "instance", "stack"} <= types
        metric = ask(f"{url}/v1/metric", openstack, {"archive_policy_name": "low"})["id"]
        measures = f"{url}/v1/metric/{metric}/measures"
        values = [{"timestamp": 1_700_000_000 + n, "value": v} for n, v in enumerate((1, 2, 6))]
        ask(measures, openstack, values)
        found = until(lambda: ask(f"{measures}?aggregation=mean", openstack), "aggregates")
        assert found == [["2023-11-14T22:10:00+00:00", 300.0, 3.0]]
        assert processing.stop() == 0
        assert serving.stop() == 0
        assert warned(log.read_text()) == []
        text = (site.directory / "api.log").read_text()
        if importlib.util.find_spec("memcache"):
            assert writes(memcached_server) > 0
        else:
            warned_once(text, "memcached_servers", "python-memcached")
        warned_once(text, "auth_uri", "www_authenticate_uri")
        warned_once(text, "Keystone", "auth_mode")
        # Apache runs the script file; it finds the files where they are searched for.
        script = str(pathlib.Path(gnocchi.__file__).parent / "rest" / "app.wsgi")
        done = site.execute([PYTHON, "-c", CALL, script])
        assert done.stdout.strip() == "200 OK", done.stderr


# ------------------------------------------------------------------ Swift


def test_swift(site: Site, port: int, swift_server: servers.SwiftServer) -> None:
    account, _, _user = servers.SWIFT_USER.partition(":")
    text = SWIFT.format(
        directory=site.directory,
        server=swift_server,
        storage_url=f"{swift_server.url}/v1/AUTH_{account}",
        user=servers.SWIFT_USER,
        key=servers.SWIFT_KEY,
        prefix=f"t{uuid.uuid4().hex[:8]}",
    )
    site.configuration.write_text(text)
    upgraded = site.execute(site.arguments("gnocchi-upgrade"))
    assert upgraded.returncode == 0, upgraded.stderr
    warned_once(upgraded.stderr, "swift_preauthurl", "swift_url")
    warned_once(upgraded.stderr, "swift_tenant_name", "swift_project_name")
    assert servers.SWIFT_KEY not in upgraded.stderr
    with site.spawn(site.arguments("gnocchi-api", "--port", str(port)), "api"):
        until(lambda: request(f"http://127.0.0.1:{port}/v1/metric") == [], "API")
        measures = post(f"http://127.0.0.1:{port}", 1, 2, 6)
        count = ("--stop-after-processing-metrics", "1")
        done = site.execute(site.arguments("gnocchi-metricd", *count))
        assert done.returncode == 0, done.stderr
        found = request(f"{measures}?aggregation=mean")
        assert found == [["2023-11-14T22:10:00+00:00", 300.0, 3.0]]
