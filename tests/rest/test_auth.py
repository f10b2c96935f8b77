"""Modes of authentication: the headers of Keystone, and modes of other packages."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import pytest

from gnocchi import errors
from gnocchi.rest import auth

IDENTITY = {
    "HTTP_X_IDENTITY_STATUS": "Confirmed",
    "HTTP_X_USER_ID": "u1",
    "HTTP_X_PROJECT_ID": "p1",
    "HTTP_X_DOMAIN_ID": "d1",
    "HTTP_X_ROLES": "member,Admin",
    "keystone.token_auth": object(),
}


def keystone(**changes: Any) -> auth.Caller | None:
    """Ask the mode about an identity with some parts changed."""
    return auth.mode("keystone").caller({**IDENTITY, **changes})


def test_keystone_reads_what_its_middleware_sets() -> None:
    """The creator is made of the user and the project."""
    caller = keystone()
    assert caller is not None
    assert caller.creator == "u1:p1"
    assert caller.tenant
    assert (caller.user_id, caller.project_id) == ("u1", "p1")
    assert caller.credentials == {
        "user": "u1:p1",
        "user_id": "u1",
        "project_id": "p1",
        "domain_id": "d1",
        "roles": ["member", "Admin"],
    }


@pytest.mark.parametrize("absent", [None, ""])
def test_a_token_without_a_project_has_none(absent: str | None) -> None:
    """Rules must not see the text None, nor an empty one."""
    caller = keystone(HTTP_X_PROJECT_ID=absent, HTTP_X_DOMAIN_ID=absent, HTTP_X_ROLES=absent)
    assert caller is not None
    assert caller.creator == "u1:"
    assert caller.project_id is None
    assert caller.credentials == {"user": "u1:", "user_id": "u1", "roles": []}


@pytest.mark.parametrize(
    "changes",
    [
        {"HTTP_X_IDENTITY_STATUS": "Invalid"},
        {"HTTP_X_IDENTITY_STATUS": None},
        {"keystone.token_auth": None},
        {"HTTP_X_USER_ID": None, "HTTP_X_PROJECT_ID": None},
        {"HTTP_X_USER_ID": "u" * 255},
        {"HTTP_X_USER_ID": "u\0"},
    ],
)
def test_nobody_is_somebody_without_a_confirmed_identity(changes: dict[str, Any]) -> None:
    """Nor is one whose creator could not be stored."""
    assert keystone(**changes) is None


class Registered:
    """Stands for the entry point of another package."""

    def __init__(self, loaded: Any) -> None:
        self._loaded = loaded

    def load(self) -> Any:
        """Return it, or fail as an import does."""
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


def test_other_packages_may_bring_a_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found by its entry point, and called without an argument."""
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda **_named: [Registered(auth.RemoteUser)]
    )
    assert isinstance(auth.mode("other"), auth.RemoteUser)


def test_a_mode_that_cannot_be_loaded_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the name that was configured."""
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda **_named: [Registered(ImportError("ldap"))]
    )
    with pytest.raises(errors.Misconfigured, match="'other': ldap"):
        auth.mode("other")
