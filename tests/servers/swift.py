"""Swift: its four servers with two storage policies; users of its own, or those of a Keystone."""

from __future__ import annotations

import contextlib
import getpass
import http.client
import json
import os
import pathlib
import socket
import ssl
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.servers.base import Sandbox, Server, environment, reserve_port, sandbox
from tests.servers.coordination import memcached
from tests.servers.keystone import ADMIN_PASSWORD
from tests.servers.redis import make_certificates

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

SWIFT = ("swift>=2.38", "keystonemiddleware>=13")
SWIFT_USER, SWIFT_KEY = "gnocchi:gnocchi", "the-key-of-gnocchi"
SWIFT_OTHER, SWIFT_OTHER_KEY = "other:other", "the-key-of-the-other"
SWIFT_GUEST, SWIFT_GUEST_KEY = "gnocchi:guest", "the-key-of-the-guest"
SWIFT_OWNER, SWIFT_OWNER_KEY = "admin:admin", "admin"
SWIFT_POLICIES = ("gold", "silver")  # the first is that of containers which name none
SWIFT_REGION = "RegionOne"

SERVERS = ("account", "container", "object")

CONFIGURATION = """\
[swift-hash]
swift_hash_path_suffix = tests
[storage-policy:0]
name = gold
default = yes
[storage-policy:1]
name = silver
"""

# Every server in one process, with one disk that is a directory.
SERVER = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {directory}
devices = {data}
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
recon_cache_path = {directory}/recon
log_level = WARNING
"""
BACK_END = """\
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
[{name}-updater]
"""
PROXY = """\
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats {bulk} {users} copy \
account-quotas slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
node_timeout = 3
conn_timeout = 0.5
error_suppression_limit = 1000000
error_suppression_interval = 1
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:account-quotas]
use = egg:swift#account_quotas
[filter:tempauth]
use = egg:swift#tempauth
user_gnocchi_gnocchi = the-key-of-gnocchi .admin
user_gnocchi_guest = the-key-of-the-guest
user_other_other = the-key-of-the-other .admin
user_admin_admin = admin .admin .reseller_admin
"""
FILTERS = ("catch_errors", "gatekeeper", "healthcheck", "listing_formats", "bulk", "copy", "slo",
           "dlo")  # fmt: skip
KEYSTONE_FILTERS = """\
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
auth_type = password
auth_url = {url}
www_authenticate_uri = {url}
interface = public
username = admin
password = {password}
project_name = admin
user_domain_id = default
project_domain_id = default
delay_auth_decision = true
service_token_roles_required = true
[filter:keystoneauth]
use = egg:swift#keystoneauth
operator_roles = admin, member
"""

RINGS = """\
import sys
from swift.common.ring import RingBuilder

directory, *rings = sys.argv[1:]
for ring in rings:
    name, port = ring.split("=")
    builder = RingBuilder(6, 1, 0)
    builder.add_dev({
        "id": 0, "region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "disk",
        "weight": 1, "meta": "", "replication_ip": "127.0.0.1", "replication_port": int(port),
    })
    builder.rebalance()
    builder.get_ring().save(f"{directory}/{name}.ring.gz")
"""

# Policies are read from /etc/swift when the module is imported, whatever ``swift_dir`` says.
PROGRAM = """\
import importlib
import sys

directory, name, module, *options = sys.argv[1:]
from swift.common import utils
utils.SWIFT_CONF_FILE = directory + "/swift.conf"
from swift.common import storage_policy
storage_policy.reload_storage_policies()
sys.argv = ["swift-" + name, f"{directory}/{name}.conf", *options]
sys.exit(importlib.import_module(module).main())
"""


def swift_programs() -> pathlib.Path:
    """Install Swift if need be, and give the directory of its programs."""
    return environment("swift", *SWIFT)


@dataclass
class SwiftServer(Server):
    """A running Swift; ``process`` is the proxy, ``url`` without a path.

    Attributes:
        auth_url: for authentication version 1.
        processes: of the servers, by name: proxy, account, container, object.
        memcached: where tokens of version 1 are.
    """

    box: Sandbox
    programs: pathlib.Path
    auth_url: str
    ports: dict[str, int]
    processes: dict[str, subprocess.Popen[bytes]]
    memcached: Server
    tls: bool = False

    @property
    def certificate(self) -> pathlib.Path:
        """The authority's, with TLS."""
        return self.directory / "certificates" / "ca.crt"

    def start(self, name: str) -> None:
        """Start one server, again."""
        module = f"swift.{name.replace('object', 'obj')}.server"
        self.processes[name] = self.box.start(
            self.programs / "python", "-c", PROGRAM, self.directory, name, module, "-v",
            ready=lambda: self._ready(name),
        )  # fmt: skip
        if name == "proxy":
            self.process = self.processes[name]

    def _ready(self, name: str) -> bool:
        if name == "proxy":
            return _is_healthy(self.port, tls=self.tls)
        with socket.create_connection(("127.0.0.1", self.ports[name]), 1):
            return True

    def kill(self, name: str) -> None:
        """End one server as a failure of power would."""
        self.processes[name].kill()
        self.processes[name].wait()

    def update_containers(self) -> None:
        """Bring into listings what could not be brought there when it was written."""
        self.box.run(
            self.programs / "python", "-c", PROGRAM, self.directory, "object",
            "swift.obj.updater", "--once",
        )  # fmt: skip

    def forget_tokens(self) -> None:
        """Let all tokens of version 1 expire."""
        with socket.create_connection(("127.0.0.1", self.memcached.port), 5) as connection:
            connection.sendall(b"flush_all\r\n")
            assert connection.recv(2) == b"OK"


def _is_healthy(port: int, *, tls: bool) -> bool:
    connection = (
        http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=30, context=ssl._create_unverified_context()
        )
        if tls
        else http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    )
    try:
        connection.request("GET", "/healthcheck")
        return connection.getresponse().status == 200
    except http.client.HTTPException:
        return False
    finally:
        connection.close()


@contextlib.contextmanager
def swift(
    *,
    keystone: Server | None = None,
    bulk: bool = True,
    tls: bool = False,
    parent: pathlib.Path | None = None,
) -> Iterator[SwiftServer]:
    """Run Swift.

    Args:
        keystone: whose users to serve; its catalogue gets a Swift in the region `SWIFT_REGION`.
            Without, there are the users named above.
        bulk: offer to remove several objects with one request.
        tls: the proxy serves nothing but TLS.
        parent: where to make the directory of its disk.
    """
    found = swift_programs()
    with memcached() as cache, _disk(parent) as data, sandbox("swift", None) as box:
        ports = {name: reserve_port() for name in (*SERVERS, "proxy")}
        _configure(box, data, ports, cache.port, keystone, bulk=bulk, tls=tls)
        rings = [f"{name}={ports[name.partition('-')[0]]}" for name in (*SERVERS, "object-1")]
        box.run(found / "python", "-c", RINGS, box.directory, *rings)
        url = f"http{'s' if tls else ''}://127.0.0.1:{ports['proxy']}"
        server = SwiftServer(
            ports["proxy"], url, box.directory, cache.process, box, found, f"{url}/auth/v1.0",
            ports, {}, cache, tls,
        )  # fmt: skip
        for name in (*SERVERS, "proxy"):
            server.start(name)
        if keystone is not None:
            _enter_into_catalogue(keystone, f"{url}/v1/AUTH_%(project_id)s")
        yield server


@contextlib.contextmanager
def _disk(parent: pathlib.Path | None) -> Iterator[pathlib.Path]:
    """A directory for objects: in memory, where Swift is three times as fast, if it can be there.

    It needs extended attributes, which file systems in memory have in recent kernels.
    """
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="gnocchi-swift-disk-", dir=parent)
        )
        if parent is None and os.path.isdir("/dev/shm"):
            memory = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="gnocchi-swift-disk-", dir="/dev/shm")
            )
            with contextlib.suppress(OSError):
                os.setxattr(memory, "user.gnocchi", b"")
                place = memory
        data = pathlib.Path(place)
        (data / "disk").mkdir()
        yield data


def _configure(
    box: Sandbox,
    data: pathlib.Path,
    ports: dict[str, int],
    memcached_port: int,
    keystone: Server | None,
    *,
    bulk: bool,
    tls: bool,
) -> None:
    directory = box.directory
    (directory / "recon").mkdir()
    (directory / "swift.conf").write_text(CONFIGURATION)
    for name, port in ports.items():
        text = SERVER.format(port=port, user=getpass.getuser(), directory=directory, data=data)
        if name != "proxy":
            text += BACK_END.format(name=name)
        else:
            if tls:
                place = directory / "certificates"
                place.mkdir()
                make_certificates(place)
                text += f"cert_file = {place}/server.crt\nkey_file = {place}/server.key\n"
            text += PROXY.format(
                memcached=memcached_port,
                bulk="bulk" if bulk else "",
                users="authtoken keystoneauth" if keystone is not None else "tempauth",
            )
            text += "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in FILTERS)
            if keystone is not None:
                text += KEYSTONE_FILTERS.format(url=keystone.url, password=ADMIN_PASSWORD)
        (directory / f"{name}.conf").write_text(text)


def _enter_into_catalogue(keystone: Server, url: str) -> None:
    """Name the storage URL to whoever authenticates; another one under ``internal``."""
    scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
    user = {"name": "admin", "domain": {"id": "default"}, "password": ADMIN_PASSWORD}
    identity = {"methods": ["password"], "password": {"user": user}}
    headers, _ = _post(keystone, "/auth/tokens", {"auth": {"identity": identity, "scope": scope}})
    token = headers["X-Subject-Token"]
    service = {"type": "object-store", "name": f"swift {url}"}
    _, made = _post(keystone, "/services", {"service": service}, token)
    for interface in ("public", "internal", "admin"):
        endpoint = {
            "service_id": made["service"]["id"],
            "region_id": SWIFT_REGION,
            "interface": interface,
            "url": url,
        }
        _post(keystone, "/endpoints", {"endpoint": endpoint}, token)


def _post(keystone: Server, path: str, body: Any, token: str = "") -> tuple[dict[str, str], Any]:
    connection = http.client.HTTPConnection("127.0.0.1", keystone.port, timeout=60)
    try:
        headers = {"Content-Type": "application/json", "X-Auth-Token": token}
        connection.request("POST", "/v3" + path, json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 201, text
        return dict(answer.getheaders()), json.loads(text)
    finally:
        connection.close()
