"""Who asks: credentials of a request become a `Caller`.

A caller is known by the creator string that what it makes is stored under, and by the
credentials policy rules are evaluated with. Modes are chosen by ``[api] auth_mode``; passwords
are not checked in mode ``basic``, which is for trusted networks and front ends that check them.
"""

from __future__ import annotations

import base64
import binascii
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


_MODES: dict[str, type[Basic | RemoteUser]] = {"basic": Basic, "remoteuser": RemoteUser}


def mode(name: str) -> Mode:
    """Return the mode of that name; raises `Misconfigured` for an unknown one."""
    try:
        return _MODES[name]()
    except KeyError:
        raise errors.Misconfigured(f"Unknown [api] auth_mode {name!r}") from None
