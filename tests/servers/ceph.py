"""Ceph: one monitor and one OSD with cephx, and a RADOS gateway (S3) if wanted."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import subprocess
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.servers.base import (
    STOP_TIMEOUT_S,
    Sandbox,
    Server,
    ServerError,
    programs,
    reserve_port,
    sandbox,
)

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

CEPH = ("ceph-mon", "ceph-osd", "ceph", "rados", "ceph-authtool", "monmaptool")
RADOSGW = (*CEPH, "radosgw", "radosgw-admin")
CEPH_POOL = "gnocchi"
CEPH_USER = "gnocchi"
S3_KEYS = ("access", "secret")
COMMAND_TIMEOUT_S = 60
#: By default: OSDs that are silent for longer are reported by the others.
HEARTBEAT_GRACE_S = 20.0
#: By default: from which share of the disks on something is not done any more.
FULL_RATIOS = {"nearfull": "0.85", "backfillfull": "0.90", "full": "0.95"}

# The two lines on paxos let the monitor decide at once instead of collecting for a second. Without
# cluster_addr the OSD would listen on all interfaces.
CONFIGURATION = """\
[global]
fsid = {fsid}
mon_initial_members = a
mon_host = v2:127.0.0.1:{port}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_msgr1 = false
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
auth_allow_insecure_global_id_reclaim = false
keyring = {directory}/$cluster.$name.keyring
run_dir = {directory}/run
admin_socket = {directory}/run/$name.$pid.asok
log_file = {directory}/$name.log
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_data_avail_warn = 2
mon_data_avail_crit = 1
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
[mon.a]
mon_data = {directory}/mon
keyring = {directory}/mon/keyring
[osd.0]
osd_data = {directory}/osd
osd_objectstore = {store}
osd_fast_shutdown = true
memstore_device_bytes = 4294967296
bluestore_block_size = 2147483648
[client.rgw.a]
rgw_data = {directory}/rgw
rgw_frontends = beast endpoint=127.0.0.1:{gateway} tcp_nodelay=1
rgw_run_sync_thread = false
rgw_enable_lc_threads = false
rgw_enable_gc_threads = false
"""


def ceph_programs() -> dict[str, str]:
    """Find the programs of Ceph, those of its gateway included."""
    return programs(*RADOSGW)


@dataclass
class CephServer(Server):
    """A running cluster; ``process`` is the monitor, ``port`` its port.

    Attributes:
        configuration: what clients call ``ceph.conf``; names no user.
        pool: an empty pool, the only one the user may touch.
        user: without the prefix ``client.``.
        secret: the user's key.
        keyring: a file with it.
        osd: process of the OSD.
        s3_url: of the gateway, empty without one; `S3_KEYS` are the keys of its user.
        gateway: process of the gateway.
    """

    box: Sandbox
    configuration: pathlib.Path
    pool: str
    user: str
    secret: str
    keyring: pathlib.Path
    osd: subprocess.Popen[bytes]
    s3_url: str = ""
    gateway: subprocess.Popen[bytes] | None = None

    def administrate(self, *command: str) -> Any:
        """Run a command of ``ceph`` as administrator; return what it says, decoded from JSON."""
        return _administrate(self.box, *command)

    def pause_osd(self) -> None:
        """Let the OSD stand still: connections stay, nothing is answered."""
        self.osd.send_signal(signal.SIGSTOP)

    def resume_osd(self) -> None:
        """Let it go on."""
        self.osd.send_signal(signal.SIGCONT)

    def kill_osd(self) -> None:
        """End the OSD as a failure of power would, and tell the monitor.

        Which would else believe for 20 seconds and more that it is there.
        """
        self.osd.kill()
        self.osd.wait()
        self.administrate("osd", "down", "0")

    def report_osd(self, silent_s: float) -> None:
        """Do as other OSDs would that have not heard of this one for so long.

        It is then taken for down and has to make itself known anew. One that nobody misses may
        keep operations waiting for good for a lease on its objects that has expired meanwhile.
        """
        if silent_s > HEARTBEAT_GRACE_S:
            self.administrate("osd", "down", "0")

    def start_osd(self) -> None:
        """Start the OSD again; with bluestore it has what it had."""
        self.osd = _start_osd(self.box)

    def fill(self) -> None:
        """Let the cluster take itself for full."""
        for name in FULL_RATIOS:
            self.administrate("osd", f"set-{name}-ratio", "0.000001")
        self._wait_until_full(True)

    def free(self) -> None:
        """Let it find space again."""
        for name, ratio in reversed(FULL_RATIOS.items()):
            self.administrate("osd", f"set-{name}-ratio", ratio)
        self._wait_until_full(False)

    def _wait_until_full(self, full: bool) -> None:
        end = time.monotonic() + COMMAND_TIMEOUT_S
        while not self._is_known_to_be(full):
            if time.monotonic() > end:
                raise ServerError(f"the cluster does not {'fill' if full else 'empty'}")
            time.sleep(0.1)

    def _is_known_to_be(self, full: bool) -> bool:
        """Whether the monitor says so, and the OSD has heard of it."""
        said = self.administrate("osd", "dump")
        if ("full" in said["pools"][0]["flags_names"]) is not full:
            return False
        heard = self.administrate("tell", "osd.0", "status")["newest_map"]
        return bool(heard >= said["epoch"])

    def limit_objects(self, limit: int | None) -> None:
        """Refuse further objects in buckets of the gateway's user that have so many; or none."""
        quota = [
            programs("radosgw-admin")["radosgw-admin"],
            "-c", self.configuration, "-n", "client.rgw.a", "quota",
        ]  # fmt: skip
        whose = ("--quota-scope=bucket", "--uid=gnocchi")
        if limit is None:
            self.box.run(*quota, "disable", *whose)
        else:
            self.box.run(*quota, "set", *whose, f"--max-objects={limit}")
            self.box.run(*quota, "enable", *whose)

    def pause(self) -> None:
        """Let monitor and OSD stand still."""
        for process in (self.process, self.osd):
            process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        for process in (self.process, self.osd):
            process.send_signal(signal.SIGCONT)


def _administrate(box: Sandbox, *command: str) -> Any:
    file = str(box.directory / "ceph.conf")
    ceph = [programs("ceph")["ceph"], "--conf", file, "--connect-timeout", "20", "--format", "json"]
    done = subprocess.run(
        [*ceph, *command], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        raise ServerError(f"ceph {' '.join(command)} returned {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout) if done.stdout.strip() else None


def _start_osd(box: Sandbox) -> subprocess.Popen[bytes]:
    # The monitor may still believe in the OSD of before: only a later boot is this one's.
    before = _up_since(box)
    return box.start(
        programs("ceph-osd")["ceph-osd"], "-c", box.directory / "ceph.conf", "-i", "0", "-f",
        ready=lambda: _up_since(box) > before,
    )  # fmt: skip


def _up_since(box: Sandbox) -> int:
    """The epoch of the cluster's map in which the OSD came up; -1 while it is down."""
    osds = _administrate(box, "osd", "dump")["osds"]
    return max((int(osd["up_from"]) for osd in osds if osd["up"]), default=-1)


def _start_monitor(box: Sandbox, port: int) -> subprocess.Popen[bytes]:
    directory = box.directory
    found = ceph_programs()
    fsid, configuration = _fsid(directory), directory / "ceph.conf"
    everything = [
        argument for part in ("mon", "osd", "mgr") for argument in ("--cap", part, "allow *")
    ]
    admin = directory / "ceph.client.admin.keyring"
    box.run(
        found["ceph-authtool"], "--create-keyring", admin, "--gen-key", "-n", "client.admin",
        *everything,
    )  # fmt: skip
    shutil.copy(admin, directory / "initial")
    box.run(
        found["ceph-authtool"], directory / "initial", "--gen-key", "-n", "mon.",
        "--cap", "mon", "allow *",
    )  # fmt: skip
    box.run(
        found["monmaptool"], "--create", "--fsid", fsid,
        "--addv", "a", f"[v2:127.0.0.1:{port}]", directory / "monmap",
    )  # fmt: skip
    box.run(
        found["ceph-mon"], "-c", configuration, "--mkfs", "-i", "a",
        "--monmap", directory / "monmap", "--keyring", directory / "initial",
    )  # fmt: skip
    return box.start(
        found["ceph-mon"], "-c", configuration, "-i", "a", "-f",
        ready=lambda: _administrate(box, "mon", "stat") is not None,
    )  # fmt: skip


def _fsid(directory: pathlib.Path) -> str:
    lines = (directory / "ceph.conf").read_text().splitlines()
    return next(line.partition("= ")[2] for line in lines if line.startswith("fsid"))


def _add_user(box: Sandbox, entity: str, *capabilities: str) -> tuple[str, pathlib.Path]:
    """Give a user capabilities; return its key and a keyring."""
    said = _administrate(box, "auth", "get-or-create", entity, *capabilities)
    secret: str = said[0]["key"]
    keyring = box.directory / f"ceph.{entity}.keyring"
    keyring.write_text(f"[{entity}]\n\tkey = {secret}\n")
    return secret, keyring


def _make_osd(box: Sandbox) -> None:
    osd_uuid = str(uuid.uuid4())
    _administrate(box, "osd", "new", osd_uuid)
    _add_user(
        box, "osd.0", "mon", "allow profile osd", "osd", "allow *", "mgr", "allow profile osd"
    )
    box.run(
        programs("ceph-osd")["ceph-osd"], "-c", box.directory / "ceph.conf", "-i", "0",
        "--mkfs", "--osd-uuid", osd_uuid,
    )  # fmt: skip


def _make_pool(box: Sandbox, pool: str) -> None:
    """Make a pool and wait until it serves."""
    _administrate(box, "osd", "pool", "create", pool, "8", "8", "replicated")
    probe = [
        programs("rados")["rados"], "-c", str(box.directory / "ceph.conf"), "-p", pool,
    ]  # fmt: skip
    box.run(*probe, "create", "probe")
    box.run(*probe, "rm", "probe")


def _start_gateway(box: Sandbox, port: int) -> subprocess.Popen[bytes]:
    """Start a gateway and make its user."""
    found = ceph_programs()
    own = ["-c", str(box.directory / "ceph.conf"), "-n", "client.rgw.a"]
    _add_user(box, "client.rgw.a", "mon", "allow rw", "osd", "allow rwx")
    process = box.start(found["radosgw"], *own, "-f", ready=lambda: _serves(port))
    box.run(
        found["radosgw-admin"], *own, "user", "create", "--uid", "gnocchi",
        "--display-name", "gnocchi", "--max-buckets", "0",
        "--access-key", S3_KEYS[0], "--secret-key", S3_KEYS[1],
    )  # fmt: skip
    return process


def _serves(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except http.client.HTTPException:
        return False
    finally:
        connection.close()


@contextlib.contextmanager
def ceph(*, durable: bool = False, gateway: bool = False) -> Iterator[CephServer]:
    """Run a cluster.

    Args:
        durable: keep objects in a file (bluestore), so that the OSD can be killed and started
            again; takes 4 seconds more to start. Without, they are in memory (memstore).
        gateway: run a RADOS gateway too.
    """
    with sandbox("ceph", None) as box:
        port, gateway_port = reserve_port(), reserve_port()
        for name in ("mon", "osd", "rgw", "run"):
            (box.directory / name).mkdir()
        configuration = box.directory / "ceph.conf"
        configuration.write_text(
            CONFIGURATION.format(
                fsid=uuid.uuid4(),
                port=port,
                gateway=gateway_port,
                directory=box.directory,
                store="bluestore" if durable else "memstore",
            )
        )
        monitor = _start_monitor(box, port)
        _make_osd(box)
        osd = _start_osd(box)
        _make_pool(box, CEPH_POOL)
        secret, keyring = _add_user(
            box, f"client.{CEPH_USER}", "mon", "allow r", "osd", f"allow rwx pool={CEPH_POOL}"
        )
        server = CephServer(
            port, f"http://127.0.0.1:{gateway_port}" if gateway else str(configuration),
            box.directory, monitor,
            box, configuration, CEPH_POOL, CEPH_USER, secret, keyring, osd,
        )  # fmt: skip
        if gateway:
            server.gateway = _start_gateway(box, gateway_port)
            server.s3_url = server.url
        try:
            yield server
        finally:
            _stop(server)


def _stop(server: CephServer) -> None:
    """Stop the gateway while there is an OSD, and the OSD while there is a monitor.

    Each would else hang for some seconds.
    """
    server.resume()
    for process in (server.gateway, server.osd):
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)
