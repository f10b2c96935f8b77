"""Keystone, on SQLite and with Fernet tokens."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
from typing import TYPE_CHECKING

from tests.servers.base import Server, environment, reserve_port, sandbox

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

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
