"""Who asks: credentials of a request become a `Caller`.

A caller is known by the creator string that what it makes is stored under, and by the
credentials policy rules are evaluated with. Modes are chosen by ``[api] auth_mode``. Passwords
are not checked in mode ``basic``, which is for trusted networks and front ends that check them.

In mode ``keystone`` the identity comes from the headers that keystonemiddleware sets, and only
if it has seen the request: what a client sends under the same names is never believed, whatever
the paste file puts in front of the API.
"""

from __future__ import annotations

import base64
import binascii
import importlib.metadata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from gnocchi import errors
from gnocchi.rest.requests import storable

if TYPE_CHECKING:
    from collections.abc import Mapping

ADMIN = "admin"
MAX_CREATOR = 255


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody whose credentials have been accepted."""

    creator: str | None
    credentials: Mapping[str, Any] = field(default_factory=dict)
    """What policy rules see: ``user``, ``roles`` and, where there are any, ``user_id``,
    ``project_id`` and ``domain_id``."""
    tenant: bool = False
    """Whether this is the member of a project, who sees nothing of other projects. Otherwise
    everybody may read all resources and list all metrics."""

    @property
    def user_id(self) -> str | None:
        """The user, where callers have projects."""
        return self.credentials.get("user_id")

    @property
    def project_id(self) -> str | None:
        """The project the caller acts for, if there is one."""
        return self.credentials.get("project_id")


ANONYMOUS = Caller(creator=None, credentials={"roles": []})


class Mode(Protocol):
    """A way to authenticate."""

    challenge: str | None
    """Value of ``WWW-Authenticate`` on a 401."""

    def caller(self, environ: Mapping[str, Any]) -> Caller | None:
        """Return who asks, or ``None`` without usable credentials."""


class Basic:
    """HTTP basic authentication; the user name is all that counts."""

    challenge: str | None = 'Basic realm="gnocchi"'

    def caller(self, environ: Mapping[str, Any]) -> Caller | None:
        """Read ``Authorization: Basic base64(user:password)``, the scheme in any case."""
        scheme, _, encoded = environ.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            decoded = base64.b64decode(encoded.strip().encode("latin-1"), validate=True)
        except (binascii.Error, ValueError):
            return None
        user, colon, _password = decoded.partition(b":")
        if not colon:
            return None
        try:
            name = user.decode("utf-8")
        except UnicodeDecodeError:
            name = user.decode("latin-1")
        return _named(name)


class RemoteUser:
    """The web server in front has authenticated; ``REMOTE_USER`` names the user."""

    challenge: str | None = None

    def caller(self, environ: Mapping[str, Any]) -> Caller | None:
        """Read ``REMOTE_USER``, text or bytes."""
        user = environ.get("REMOTE_USER")
        if isinstance(user, bytes):
            user = user.decode("latin-1")
        return _named(user) if isinstance(user, str) else None


def _named(user: str) -> Caller | None:
    if not user or len(user) > MAX_CREATOR or not storable(user):
        return None
    roles = [ADMIN] if user == ADMIN else []
    return Caller(creator=user, credentials={"user": user, "roles": roles})


class Keystone:
    """Keystone's middleware has validated a token and tells whose it is."""

    challenge: str | None = None

    #: Where the middleware leaves the token it has validated. No header can end up there.
    VALIDATED = "keystone.token_auth"

    def caller(self, environ: Mapping[str, Any]) -> Caller | None:
        """Read ``X-User-Id``, ``X-Project-Id``, ``X-Domain-Id`` and ``X-Roles``."""
        if (
            environ.get("HTTP_X_IDENTITY_STATUS") != "Confirmed"
            or environ.get(self.VALIDATED) is None
        ):
            return None
        credentials: dict[str, Any] = {
            name: value
            for name, header in _IDENTITY.items()
            if (value := environ.get(header)) not in (None, "")
        }
        creator = f"{credentials.get('user_id', '')}:{credentials.get('project_id', '')}"
        if creator == ":" or len(creator) > MAX_CREATOR or not storable(creator):
            return None
        roles = (environ.get("HTTP_X_ROLES") or "").split(",")
        credentials["user"] = creator
        credentials["roles"] = [role.strip() for role in roles if role.strip()]
        return Caller(creator=creator, credentials=credentials, tenant=True)


_IDENTITY = {
    "user_id": "HTTP_X_USER_ID",
    "project_id": "HTTP_X_PROJECT_ID",
    "domain_id": "HTTP_X_DOMAIN_ID",
}

_MODES: dict[str, type[Basic | RemoteUser | Keystone]] = {
    "basic": Basic,
    "remoteuser": RemoteUser,
    "keystone": Keystone,
}


def mode(name: str) -> Mode:
    """Return the mode of that name: one of the above, or one that another package registers.

    Raises:
        Misconfigured: there is none of that name, or it cannot be loaded.
    """
    if name in _MODES:
        return _MODES[name]()
    for found in importlib.metadata.entry_points(group="gnocchi.rest.auth_helper", name=name):
        try:
            other: Mode = found.load()()
        except Exception as error:  # whatever another package's code raises
            raise errors.Misconfigured(f"[api] auth_mode {name!r}: {error}") from error
        return other
    raise errors.Misconfigured(f"Unknown [api] auth_mode {name!r}")
