"""The installed commands in two modes of authentication, with users that exist in both."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from gnocchiclient.auth import GnocchiBasicPlugin
from gnocchiclient.v1.client import Client
from keystoneauth1.session import Session

from tests.acceptance import processes
from tests.clients.accounts import DOMAIN, REGION, Accounts
from tests.clients.plain import Plain
from tests.conftest import do_without
from tests.servers import ADMIN_PASSWORD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests import servers

#: Everybody's, so that the administrator whom Keystone starts with is nothing special.
PASSWORD = ADMIN_PASSWORD
#: The users of these tests with their project and roles, where there are such things.
USERS = {
    "admin": ("admin", "admin"),
    "alice": ("wonderland", "member"),
    "carroll": ("wonderland", "member", "reader"),
    "bob": ("works", "member"),
    "ceilometer": ("service", "service"),
}
GRAFANA = "http://grafana.example:3000"
#: Small, so that clients have to follow links.
MAX_LIMIT = 4

OPTIONS: dict[str, dict[str, object]] = {
    "api": {"processes": 2, "threads": 4, "max_limit": MAX_LIMIT},
    "metricd": {"workers": 1},
    "cors": {"allowed_origin": GRAFANA},
}


@dataclass
class Deployment:
    """Running commands and who may use them."""

    mode: str
    installation: processes.Installation
    creators: Mapping[str, str]
    accounts: Accounts | None = None
    sessions: list[Session] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where the API is."""
        return f"http://127.0.0.1:{self.installation.port}"

    def session(self, user: str, *, scoped: bool = True) -> Session:
        """Return a session of one of the users."""
        if self.accounts is None:
            session = Session(GnocchiBasicPlugin(user, self.url))
        else:
            project = USERS[user][0] if scoped else None
            session = self.accounts.session(user, PASSWORD, project)
        self.sessions.append(session)
        return session

    def client(self, user: str = "admin", *, scoped: bool = True) -> Client:
        """Return a gnocchiclient of one of the users.

        Without a project there is no catalogue that tells it where to go.
        """
        options = {} if scoped else {"endpoint_override": self.url}
        return Client(session=self.session(user, scoped=scoped), adapter_options=options)

    def plain(self, user: str = "admin", **headers: str) -> Plain:
        """Return a client that sends what it is told, with the user's credentials."""
        session = self.session(user)
        return Plain(self.url, {**session.get_auth_headers(), **headers})

    def environment(self, user: str) -> dict[str, str]:
        """Return the variables that tell the programs of gnocchiclient who asks."""
        if self.accounts is None:
            return {
                "OS_AUTH_TYPE": "gnocchi-basic",
                "GNOCCHI_USER": user,
                "GNOCCHI_ENDPOINT": self.url,
            }
        return {
            "OS_AUTH_TYPE": "password",
            "OS_AUTH_URL": self.accounts.url,
            "OS_USERNAME": user,
            "OS_PASSWORD": PASSWORD,
            "OS_PROJECT_NAME": USERS[user][0],
            "OS_USER_DOMAIN_ID": DOMAIN,
            "OS_PROJECT_DOMAIN_ID": DOMAIN,
        }

    def close(self) -> None:
        """Disconnect all clients."""
        for session in self.sessions:
            session.session.close()


@contextlib.contextmanager
def deployed(
    mode: str,
    options: Mapping[str, Mapping[str, object]],
    creators: Mapping[str, str],
    accounts: Accounts | None = None,
) -> Iterator[Deployment]:
    """Start the API and metricd."""
    with processes.installation({**OPTIONS, **options}) as installation:
        if accounts is not None:
            accounts.publish("metric", f"http://127.0.0.1:{installation.port}")
        installation.api().start_until_served()
        installation.metricd().start()
        deployment = Deployment(mode, installation, creators, accounts)
        try:
            yield deployment
        finally:
            deployment.close()


@pytest.fixture(scope="session")
def basic() -> Iterator[Deployment]:
    """An installation that believes everybody."""
    if missing := processes.missing():
        do_without(f"not installed: {', '.join(missing)} (pip install -e .)")
    with deployed("basic", {}, {user: user for user in USERS}) as deployment:
        yield deployment


@pytest.fixture(scope="session")
def keystone(keystone_server: servers.Server) -> Iterator[Deployment]:
    """An installation that asks Keystone."""
    if missing := processes.missing():
        do_without(f"not installed: {', '.join(missing)} (pip install -e .)")
    with contextlib.closing(Accounts(keystone_server)) as accounts:
        accounts.user("gnocchi", PASSWORD, "service", "service")
        creators = {}
        for name, (project, *roles) in USERS.items():
            user = accounts.user(name, PASSWORD, project, *roles)
            creators[name] = f"{user}:{accounts.project(project)}"
        options: dict[str, dict[str, object]] = {
            "api": {**OPTIONS["api"], "auth_mode": "keystone"},
            "keystone_authtoken": {
                "auth_type": "password",
                "auth_url": accounts.url,
                "www_authenticate_uri": accounts.url,
                "username": "gnocchi",
                "password": PASSWORD,
                "project_name": "service",
                "user_domain_id": DOMAIN,
                "project_domain_id": DOMAIN,
                "interface": "public",
                "region_name": REGION,
                "service_token_roles_required": True,
            },
        }
        with deployed("keystone", options, creators, accounts) as deployment:
            yield deployment


@pytest.fixture(params=["basic", "keystone"])
def deployment(request: pytest.FixtureRequest) -> Deployment:
    """Each of the two."""
    found: Deployment = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def client(deployment: Deployment) -> Client:
    """A client of the administrator."""
    return deployment.client()


@pytest.fixture
def unique() -> str:
    """A name that no other test uses, for what is seen by everybody."""
    return f"n{uuid.uuid4().hex[:10]}"


@pytest.fixture
def policy(deployment: Deployment, unique: str) -> str:
    """An archive policy of its own for the test."""
    definition: list[dict[str, Any]] = [{"granularity": "1 minute", "points": 60}]
    body = {"name": f"{unique}-policy", "definition": definition}
    deployment.client().archive_policy.create(body)
    return body["name"]
