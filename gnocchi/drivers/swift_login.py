"""Who we are to Swift, and where our account is: a storage URL and a token.

Version 1 is Swift's own authentication, versions 2 and 3 are those of Keystone. One token serves
all threads of a process. One that is refused is replaced with the next request; threads that need
it meanwhile wait for that, and share its failure.

Invariant: no error and no line of a log holds a key or a token, or a part of one.
"""

from __future__ import annotations

import functools
import importlib
import os
import threading
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from gnocchi import errors, forks

if TYPE_CHECKING:
    from types import ModuleType

VERSIONS = {"1": 1, "1.0": 1, "v1": 1, "2": 2, "2.0": 2, "v2.0": 2, "3": 3, "3.0": 3, "v3": 3}
LONGEST_CONNECT_S = 10.0

_NO_SERVICE = "swift_authurl is no authentication service of version 1"


class Refused(errors.Unavailable):
    """The credentials are not accepted, or do not suffice. May pass: they are being changed."""


class Entry(NamedTuple):
    """What a request needs."""

    url: str
    token: str

    def __repr__(self) -> str:
        return f"Entry({self.url!r}, ...)"


@dataclass(frozen=True, slots=True)
class Account:
    """What the options say, checked.

    Raises:
        Misconfigured: an option cannot be right.
    """

    version: int
    auth_url: str
    user: str
    key: str = field(repr=False)
    project: str | None
    user_domain: str
    project_domain: str
    url: str | None
    token: str | None = field(repr=False)
    region: str | None
    endpoint_type: str
    service_type: str
    verify: bool | str
    timeout_s: float

    @classmethod
    def of(cls, conf: Any) -> Account:
        """Read the options of a section."""
        version = VERSIONS.get(str(conf.swift_auth_version).strip().lower())
        if version is None:
            raise errors.Misconfigured(
                f"swift_auth_version is 1, 2 or 3, not {conf.swift_auth_version}"
            )
        user, project = conf.swift_user or "", conf.swift_project_name
        if version > 1 and not project:
            project, _, user = user.rpartition(":")
        token, url = conf.swift_preauthtoken or None, conf.swift_url or None
        if version > 1 and not project and not (token and url):
            raise errors.Misconfigured(
                f"swift_auth_version = {version} needs swift_project_name as well"
            )
        return cls(
            version=version,
            auth_url=_url("swift_authurl", conf.swift_authurl or ""),
            user=user,
            key=conf.swift_key or "",
            project=project,
            user_domain=conf.swift_user_domain_name,
            project_domain=conf.swift_project_domain_name,
            url=_url("swift_url", url).rstrip("/") if url else None,
            token=token,
            region=conf.swift_region or None,
            endpoint_type=conf.swift_endpoint_type,
            service_type=conf.swift_service_type,
            verify=_verify(conf),
            timeout_s=float(conf.swift_timeout),
        )

    @property
    def timeouts_s(self) -> tuple[float, float]:
        """How long to wait for a connection, and for an answer."""
        return min(self.timeout_s, LONGEST_CONNECT_S), self.timeout_s


def _url(option: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname is not None
        _ = parts.port
    except ValueError:
        known = False
    if not known:
        raise errors.Misconfigured(f"{option} is no URL of http or https")
    return url


def _verify(conf: Any) -> bool | str:
    if conf.swift_auth_insecure:
        return False
    if not conf.swift_cacert:
        return True
    if not os.path.exists(conf.swift_cacert):
        raise errors.Misconfigured(f"swift_cacert: {conf.swift_cacert} does not exist")
    file: str = conf.swift_cacert
    return file


@functools.cache
def module(name: str, package: str = "gnocchi[swift]") -> ModuleType:
    """Import a module that need not be installed.

    Called first where there is one thread: filters of warnings belong to all of them.

    Raises:
        Misconfigured: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            # They warn of each other's versions, which operators cannot help.
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as e:
        raise errors.Misconfigured(
            f"The Swift driver needs the module {name}: pip install {package} ({e})"
        ) from e


_KEYSTONE = ["keystoneauth1." + name for name in ("exceptions", "session", "identity")]


class Login:
    """Authenticates once for many requests. Safe for threads and across forks."""

    def __init__(self, account: Account) -> None:
        self._account = account
        for name in ("swiftclient.client", "requests.exceptions", "urllib3.exceptions"):
            module(name)
        for name in _KEYSTONE if account.version > 1 else ():
            module(name, "gnocchi[keystone]")
        self._renew()
        forks.in_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._attempts = 0
        self._failure: tuple[type[errors.GnocchiError], str] | None = None
        self._entry: Entry | None = None
        if self._account.token and self._account.url:
            self._entry = Entry(self._account.url, self._account.token)
        # A token alone can be exchanged for one with a storage URL, by Keystone.
        self._token = None if self._account.version == 1 else self._account.token

    def entry(self) -> Entry:
        """The storage URL and a token; authenticates if there is none.

        Raises:
            Refused: the credentials are not accepted.
            Unavailable: the authentication service does not do its part.
            Misconfigured: it is not one, or does not know such a Swift.
        """
        before = self._attempts
        with self._lock:
            if self._entry is not None:
                return self._entry
            if self._attempts != before and self._failure is not None:
                kind, text = self._failure
                raise kind(text)
            self._attempts += 1
            self._failure = None
            try:
                self._entry = self._authenticate()
            except errors.GnocchiError as e:
                self._failure = type(e), str(e)
                raise
            return self._entry

    def refuse(self, entry: Entry) -> None:
        """Note that Swift does not accept a token any more."""
        with self._lock:
            if self._entry == entry:
                self._entry = None

    def _authenticate(self) -> Entry:
        prepare(self._account)
        if self._account.version == 1:
            return self._by_swift()
        given, self._token = self._token, None
        try:
            return self._by_keystone(given)
        except Refused:
            if given is None:
                raise
            return self._by_keystone(None)  # the given one has expired

    # ---------------------------------------------------------------- version 1

    def _by_swift(self) -> Entry:
        account, client = self._account, module("swiftclient.client")
        try:
            url, token = client.get_auth(
                account.auth_url,
                account.user,
                account.key,
                auth_version="1",
                cacert=account.verify if isinstance(account.verify, str) else None,
                insecure=account.verify is False,
                timeout=account.timeouts_s,
            )
        except client.ClientException as e:
            if e.http_status is not None and e.http_status < 300:
                raise errors.Misconfigured(_NO_SERVICE) from e
            raise _refusal(e.http_status) from e
        except unreached() as e:
            raise errors.Unavailable(f"Unable to authenticate to Swift: {reason(e)}") from e
        url = account.url or url
        if not token or not url:
            raise errors.Misconfigured(_NO_SERVICE)
        return Entry(url.rstrip("/"), token)

    # ---------------------------------------------------------------- versions 2 and 3

    def _by_keystone(self, token: str | None) -> Entry:
        account = self._account
        exceptions, sessions, _ = (module(name, "gnocchi[keystone]") for name in _KEYSTONE)
        session = sessions.Session(
            auth=self._plugin(token), verify=account.verify, timeout=account.timeout_s
        )
        try:
            found = session.get_token()
            url = account.url or session.get_endpoint(
                service_type=account.service_type,
                interface=account.endpoint_type,
                region_name=account.region,
            )
        except exceptions.HttpError as e:
            if token is not None and e.http_status == 404:  # of a token it cannot read
                raise _refusal(401) from e
            raise _refusal(e.http_status) from e
        except exceptions.CatalogException:
            url = None
        except exceptions.ClientException as e:
            raise errors.Unavailable(f"Unable to authenticate to Keystone: {reason(e)}") from e
        finally:
            session.session.close()
        if url is None:
            region = f" of the region {account.region}" if account.region else ""
            raise errors.Misconfigured(
                f"Keystone's catalogue has no {account.endpoint_type} of the service type "
                f"{account.service_type}{region}: set swift_service_type, swift_endpoint_type, "
                "swift_region or swift_url"
            )
        return Entry(url.rstrip("/"), found)

    def _plugin(self, token: str | None) -> Any:
        """How to authenticate: with the token if there is one, else with the password."""
        account = self._account
        identity = module("keystoneauth1.identity", "gnocchi[keystone]")
        known: dict[str, Any] = {"token": token}
        if token is None:
            known = {"username": account.user, "password": account.key}
        if account.version == 2:
            kind = identity.V2Password if token is None else identity.V2Token
            known["tenant_name"] = account.project
        else:
            kind = identity.V3Password if token is None else identity.V3Token
            known["project_name"] = account.project
            known["project_domain_name"] = account.project_domain
            if token is None:
                known["user_domain_name"] = account.user_domain
        return kind(_versioned(account.auth_url, account.version), **known)


def _versioned(url: str, version: int) -> str:
    """Keystone's URL, whether the operator wrote its version or not."""
    url = url.rstrip("/")
    last = url.rpartition("/")[2]
    if last in ("v2.0", "v3"):
        return url
    return f"{url}/{'v2.0' if version == 2 else 'v3'}"


def _refusal(status: int | None) -> errors.Unavailable:
    if status in (400, 401, 403):
        return Refused(f"The authentication service refuses the credentials of Swift ({status})")
    return errors.Unavailable(f"Unable to authenticate to Swift: it answered {status}")


# -------------------------------------------------------------------- what libraries say


def prepare(account: Account) -> None:
    """Keep libraries from telling what nobody should know, or wants to."""
    # On INFO, swiftclient would log the beginnings of tokens and keys.
    settings = module("swiftclient.client").logger_settings
    settings["redact_sensitive_headers"] = True
    settings["reveal_sensitive_prefix"] = 0
    if account.verify is False:
        # The operator has said so; there would be a warning with every request.
        urllib3 = module("urllib3")
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)


def unreached() -> tuple[type[Exception], ...]:
    """What is raised when no answer came, or half of one."""
    return (
        module("requests.exceptions").RequestException,
        module("urllib3.exceptions").HTTPError,
        OSError,
    )


def timed_out(error: Exception) -> bool:
    """Whether the time was over; trying again would take as long."""
    requests, urllib3 = module("requests.exceptions"), module("urllib3.exceptions")
    return isinstance(error, requests.Timeout | urllib3.TimeoutError | TimeoutError) or any(
        isinstance(cause, urllib3.ReadTimeoutError) for cause in _causes(error)
    )


def reason(error: Exception) -> str:
    """Say in a few words why no answer came: the innermost cause that has something to tell.

    The words of libraries hold URLs, which tell nobody anything.
    """
    if timed_out(error):
        return "no answer in time"
    told = [cause.strerror for cause in _causes(error) if isinstance(cause, OSError)]
    words = [word for word in told if word]
    return str(words[-1]) if words else type(error).__name__


def _causes(error: BaseException) -> list[BaseException]:
    """An exception and what it stands for, in any of the ways that libraries tell it."""
    found: list[BaseException] = []
    left: list[object] = [error]
    while left:
        cause = left.pop(0)
        if isinstance(cause, BaseException) and cause not in found:
            found.append(cause)
            left += [cause.__cause__, cause.__context__, getattr(cause, "reason", None)]
            left += cause.args
    return found
