"""Start one server by hand: prints its address, stops at Enter."""

from __future__ import annotations

import sys

from tests import servers

STARTERS = {
    "ceph": servers.ceph,
    "keystone": servers.keystone,
    "mariadb": servers.mariadb,
    "postgresql": servers.postgresql,
    "redis": servers.redis,
    "swift": servers.swift,
}

with STARTERS[sys.argv[1]]() as server:
    sys.stdout.write(server.url + "\n")
    sys.stdout.flush()
    sys.stdin.readline()
