"""Real servers for tests, see `tests.servers.base`; one module a server."""

from __future__ import annotations

from tests.servers.base import (
    PORT_RANGE,
    Sandbox,
    Server,
    ServerError,
    environment,
    programs,
    reserve_port,
    sandbox,
)
from tests.servers.keystone import ADMIN_PASSWORD, keystone, keystone_programs
from tests.servers.mariadb import MARIADB, mariadb, mariadb_programs
from tests.servers.postgresql import POSTGRESQL, postgresql, postgresql_programs

__all__ = [
    "ADMIN_PASSWORD",
    "MARIADB",
    "PORT_RANGE",
    "POSTGRESQL",
    "Sandbox",
    "Server",
    "ServerError",
    "environment",
    "keystone",
    "keystone_programs",
    "mariadb",
    "mariadb_programs",
    "postgresql",
    "postgresql_programs",
    "programs",
    "reserve_port",
    "sandbox",
]
