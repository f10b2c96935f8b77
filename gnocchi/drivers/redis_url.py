"""Reads ``redis_url``: where a Redis is, and how to talk to it.

::

    redis[s]://[[user]:password@]host[:port][/][?option=value&...]
    redis://[[user]:password@]/path/of/a/socket[?option=value&...]

User, password and values are percent-decoded. A path after a host means nothing: the number of the
database is the option ``db``. ``rediss`` switches TLS on, towards the sentinels too where there
are any.

Invariant: no error shows a part of the URL that could be a secret. Nothing is connected here.
"""

from __future__ import annotations

import codecs
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from gnocchi.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable

PORT = 6379
SENTINEL_PORT = 26379
#: How long a server may take to answer unless ``socket_timeout`` says otherwise.
TIMEOUT_S = 10.0

_TRUE = frozenset({"1", "on", "t", "true", "y", "yes"})
_FALSE = frozenset({"0", "off", "f", "false", "n", "no"})


@dataclass(frozen=True)
class Target:
    """A server, the master that sentinels know, or a cluster.

    Attributes:
        host, port: the server, a node of the cluster, or the first sentinel.
        path: of a Unix socket, instead of host and port.
        timeout_s: how long the server may take to answer.
        retry_on_timeout: whether to ask once again when it took longer.
        connection: further arguments of a connection to the server.
        sentinel: name of the master that sentinels are asked for.
        sentinels: all of them, with their ports.
        sentinel_connection: further arguments of a connection to a sentinel.
        cluster: whether it is a cluster.
        secrets: what must not be shown.
    """

    host: str
    port: int
    path: str | None
    timeout_s: float
    retry_on_timeout: bool
    connection: dict[str, Any] = field(repr=False)
    sentinel: str | None = None
    sentinels: tuple[tuple[str, int], ...] = ()
    sentinel_connection: dict[str, Any] = field(repr=False, default_factory=dict)
    cluster: bool = False
    secrets: tuple[str, ...] = field(repr=False, default=())

    def within(self, seconds: float) -> Target:
        """The same, asked so briefly that a command is given up after so many seconds."""
        waits = (2 if self.retry_on_timeout else 1) * (2 if self.sentinel is not None else 1)
        return replace(self, timeout_s=min(self.timeout_s, seconds / waits))

    @property
    def label(self) -> str:
        """What to call it in messages."""
        where = self.path or f"{self.host}:{self.port}"
        if self.sentinel is not None:
            return f"Redis master {self.sentinel!r} of the sentinel {where}"
        return f"Redis cluster of {where}" if self.cluster else f"Redis at {where}"


def parse(url: str) -> Target:
    """Read a URL.

    Raises:
        Misconfigured: it cannot be used; the text names the option at fault.
    """
    parts = _split(url)
    options = _options(parts.query)
    host, port, path = _where(parts, "sentinel" in options)
    tls = _tls(parts.scheme, path, options)
    secrets = [unquote(parts.password or ""), options.get("sentinel_password", "")]
    timeout_s: float = options.get("socket_timeout", TIMEOUT_S)
    common = {
        "socket_keepalive": options.get("socket_keepalive", True),
        "health_check_interval": options.get("health_check_interval", 0),
    }
    target = Target(
        host,
        port,
        path,
        timeout_s,
        options.get("retry_on_timeout", False),
        {
            **common,
            **tls,
            "db": options.get("db", 0),
            "username": unquote(parts.username or "") or None,
            "password": unquote(parts.password or "") or None,
        },
        cluster=options.get("cluster", False),
        secrets=tuple(secret for secret in secrets if secret),
    )
    _check(target, options)
    if "sentinel" not in options:
        return target
    return _with_sentinels(target, options, common, tls, parts.scheme == "rediss")


def _bad(option: str, reason: str) -> Misconfigured:
    return Misconfigured(f"redis_url: {option}: {reason}")


# ------------------------------------------------------------------ the parts of the URL


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - evaluated for its error
    except ValueError:
        # its text would show what follows the last colon, which may be the end of a password
        raise Misconfigured(
            "redis_url: host or port cannot be read; "
            "special characters in the password must be percent-encoded"
        ) from None
    if parts.scheme not in ("redis", "rediss"):
        raise Misconfigured("redis_url: must begin with redis:// or rediss://")
    if parts.fragment or "@" in parts.path or "@" in parts.query or "#" in url:
        raise Misconfigured(
            "redis_url: has an @ or # out of place; "
            "special characters in the password must be percent-encoded"
        )
    return parts


def _where(parts: SplitResult, sentinel: bool) -> tuple[str, int, str | None]:
    """Host, port and path of a Unix socket: either the former or the latter counts."""
    path = unquote(parts.path)
    if parts.hostname is None and path not in ("", "/"):
        return "", 0, path
    port = parts.port
    if port == 0:
        raise _bad("port", "must be from 1 to 65535")
    if port is None:
        port = SENTINEL_PORT if sentinel else PORT
    return unquote(parts.hostname or "localhost"), port, None


# ------------------------------------------------------------------ options


def _options(query: str) -> dict[str, Any]:
    """The options by name, converted; that of ``sentinel_fallback`` is a list."""
    options: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in _CONVERTERS:
            raise Misconfigured(f"redis_url: there is no option named {name!r}")
        value = _CONVERTERS[name](name, text)
        if name == "sentinel_fallback":
            options.setdefault(name, []).append(value)
        elif name in options:
            raise _bad(name, "is given twice")
        else:
            options[name] = value
    return options


def _flag(option: str, text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise _bad(option, "must be true or false")
    return text.lower() in _TRUE


def _number(option: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise _bad(option, "must be a whole number and not negative")
    return int(text)


def _seconds(option: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise _bad(option, "must be a number of seconds")
    return seconds


def _timeout(option: str, text: str) -> float:
    seconds = _seconds(option, text)
    if not seconds:
        raise _bad(option, "must be more than 0 seconds")
    return seconds


def _text(option: str, text: str) -> str:
    if not text:
        raise _bad(option, "is empty")
    return text


def _encoding(option: str, text: str) -> str:
    """Accepted for the sake of URLs that have it: everything stored here is bytes."""
    try:
        return codecs.lookup(text).name
    except LookupError:
        raise _bad(option, f"there is no encoding named {text!r}") from None


def _file(option: str, text: str) -> str:
    try:
        with open(_text(option, text), "rb"):
            return text
    except OSError as e:
        raise _bad(option, f"{text} cannot be read: {e.strerror}") from None


def _address(option: str, text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise _bad(option, "must be <host>:<port>")
    return host, int(port)


_CONVERTERS: dict[str, Callable[[str, str], Any]] = {
    "cluster": _flag,
    "db": _number,
    "encoding": _encoding,
    "health_check_interval": _seconds,
    "retry_on_timeout": _flag,
    "sentinel": _text,
    "sentinel_fallback": _address,
    "sentinel_password": _text,
    "sentinel_ssl": _flag,
    "sentinel_username": _text,
    "socket_keepalive": _flag,
    "socket_timeout": _timeout,
    "ssl": _flag,
    "ssl_ca_certs": _file,
    "ssl_certfile": _file,
    "ssl_keyfile": _file,
}
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_OF_SENTINELS = ("sentinel_fallback", "sentinel_password", "sentinel_ssl", "sentinel_username")


def _check(target: Target, options: dict[str, Any]) -> None:
    """Refuse options that contradict one another, or that would have no effect."""
    if "sentinel" not in options:
        for name in _OF_SENTINELS:
            if name in options:
                raise _bad(name, "needs sentinel=<name of the master>")
    elif target.path is not None:
        raise _bad("sentinel", "needs the host of a sentinel, not a socket")
    if target.cluster:
        if "sentinel" in options:
            raise _bad("cluster", "a cluster has no sentinels")
        if target.path is not None:
            raise _bad("cluster", "needs the host of a node, not a socket")
        if options.get("db"):
            raise _bad("db", "a cluster has database 0 only")


# ------------------------------------------------------------------ TLS and sentinels


def _tls(scheme: str, path: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a connection to the server: none when it is not by TLS."""
    ssl = options.get("ssl", scheme == "rediss")
    if scheme == "rediss" and not ssl:
        raise _bad("ssl", "is false, but rediss:// asks for TLS")
    if ssl and path is not None:
        raise _bad("ssl", "there is no TLS on a socket of this machine")
    for name in _FILES:
        if name in options and not ssl and not options.get("sentinel_ssl"):
            raise _bad(name, "has no effect without TLS: begin with rediss:// or add ssl=true")
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise _bad("ssl_keyfile", "needs ssl_certfile")
    return _tls_arguments(options) if ssl else {}


def _tls_arguments(options: dict[str, Any]) -> dict[str, Any]:
    files = {name: options[name] for name in _FILES if name in options}
    # the library's default has not always been to look at the host's name
    return {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True, **files}


def _with_sentinels(
    target: Target,
    options: dict[str, Any],
    common: dict[str, Any],
    tls: dict[str, Any],
    tls_by_default: bool,
) -> Target:
    by_tls = options.get("sentinel_ssl", tls_by_default)
    return Target(
        target.host,
        target.port,
        None,
        target.timeout_s,
        target.retry_on_timeout,
        target.connection,
        options["sentinel"],
        ((target.host, target.port), *options.get("sentinel_fallback", [])),
        {
            **common,
            **(_tls_arguments(options) if by_tls else {}),
            "username": options.get("sentinel_username"),
            "password": options.get("sentinel_password"),
        },
        secrets=target.secrets,
    )
