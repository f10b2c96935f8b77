"""Start one server by hand: prints its address, stops at Enter."""

from __future__ import annotations

import sys

from tests import servers

STARTERS = {
    "keystone": servers.keystone,
    "mariadb": servers.mariadb,
    "postgresql": servers.postgresql,
}

with STARTERS[sys.argv[1]]() as server:
    sys.stdout.write(server.url + "\n")
    sys.stdout.flush()
    sys.stdin.readline()
