"""Accounts in a Keystone: projects, users with roles, and entries of its catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keystoneauth1.identity.v3 import Password
from keystoneauth1.session import Session

from tests.servers import ADMIN_PASSWORD

if TYPE_CHECKING:
    from tests.servers import Server

DOMAIN = "default"
REGION = "RegionOne"


class Accounts:
    """What an administrator of Keystone sets up."""

    def __init__(self, server: Server) -> None:
        self.url = server.url
        self._session = self.session("admin", ADMIN_PASSWORD, "admin")
        self._projects = {one["name"]: one["id"] for one in self._list("projects")}
        self._users = {"admin": self._session.get_user_id()}
        self._roles = {role["name"]: role["id"] for role in self._list("roles")}

    def session(self, user: str, password: str, project: str | None) -> Session:
        """Return a session of a user; without a project its tokens belong to none."""
        scope = {} if project is None else {"project_name": project, "project_domain_id": DOMAIN}
        auth = Password(
            auth_url=self.url, username=user, password=password, user_domain_id=DOMAIN, **scope
        )
        return Session(auth)

    def project(self, name: str) -> str:
        """Return the id of a project, made when first asked for."""
        if name not in self._projects:
            made = self._create("project", {"name": name, "domain_id": DOMAIN})
            self._projects[name] = made["id"]
        return self._projects[name]

    def user(self, name: str, password: str, project: str, *roles: str) -> str:
        """Return the id of a user with these roles in a project, made when first asked for."""
        if name not in self._users:
            body = {"name": name, "password": password, "domain_id": DOMAIN}
            self._users[name] = self._create("user", body)["id"]
        user: str = self._users[name]
        for role in roles:
            path = f"projects/{self.project(project)}/users/{user}/roles/{self._roles[role]}"
            self._session.put(f"{self.url}/{path}")
        return user

    def publish(self, service_type: str, url: str) -> None:
        """Make an entry of the catalogue."""
        service = self._create("service", {"type": service_type, "name": service_type})
        for interface in ("public", "internal", "admin"):
            endpoint = {
                "service_id": service["id"],
                "interface": interface,
                "region_id": REGION,
                "url": url,
            }
            self._create("endpoint", endpoint)

    def close(self) -> None:
        """Disconnect."""
        self._session.session.close()

    def _create(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._session.post(f"{self.url}/{kind}s", json={kind: body})
        created: dict[str, Any] = answer.json()[kind]
        return created

    def _list(self, kind: str) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self._session.get(f"{self.url}/{kind}").json()[kind]
        return listed
