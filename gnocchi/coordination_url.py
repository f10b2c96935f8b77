"""Where workers meet: the URL of the coordination service, and what is made of it."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qs, parse_qsl, unquote, urlencode, urlsplit

from stevedore.driver import DriverManager
from tooz import coordination

from gnocchi.indexer import locks

if TYPE_CHECKING:
    from oslo_config import cfg

#: Where sentinels listen unless told otherwise.
SENTINEL_PORT = 26379
#: Everything here waits for its answer. A thread of tooz's would only take seconds to end.
IN_THIS_THREAD = {"executor": "sync"}


def url(conf: cfg.ConfigOpts) -> str:
    """Return where to coordinate: as configured, else derived from the other options.

    With the file driver, and with an indexer that only one host can use, that is a directory
    beside the data: it has groups, its locks cost a tenth of a millisecond, and they are free the
    moment their holder dies. With the Redis driver it is that Redis. Locks in databases take a
    connection each and know no groups, so the indexer's database is the last choice.
    """
    if conf.coordination_url:
        return str(conf.coordination_url)
    for group in (conf.storage, conf.incoming):
        if group.driver == "redis" and (found := _redis_url(group.redis_url)) is not None:
            return found
    scheme, _, rest = str(conf.indexer.url).partition("://")
    if "file" in (conf.storage.driver, conf.incoming.driver) or scheme.startswith("sqlite"):
        return f"file://{pathlib.Path(conf.storage.file_basepath).absolute()}/coordination"
    return f"{scheme.partition('+')[0]}://{rest}"


def _redis_url(driver_url: str) -> str | None:
    """Translate the URL of a Redis driver for tooz; None for a cluster, which tooz cannot use."""
    scheme, _, rest = driver_url.partition("://")
    address, _, query = rest.partition("?")
    options = parse_qsl(query)
    given = dict(options)
    if given.get("cluster", "false").lower() in ("1", "true", "yes", "on", "t", "y"):
        return None
    options = [(name, value) for name, value in options if name != "cluster"]
    if scheme == "rediss":
        options.append(("ssl", "true"))
    if "sentinel" in given:
        # Both have a default in the driver, and none in tooz.
        if scheme == "rediss" and "sentinel_ssl" not in given:
            options.append(("sentinel_ssl", "true"))
        host = address.rpartition("@")[2].rstrip("/")
        if ":" not in host.rpartition("]")[2]:
            address = f"{address.rstrip('/')}:{SENTINEL_PORT}"
    return f"redis://{address}?{urlencode(options)}" if options else f"redis://{address}"


class _Decoded(SplitResult):
    """A URL as tooz gives it to its drivers, which take user and password as they are."""

    @property
    def username(self) -> str | None:
        """The user, percent-decoded."""
        return _decoded(super().username)

    @property
    def password(self) -> str | None:
        """The password, percent-decoded."""
        return _decoded(super().password)


def _decoded(text: str | None) -> str | None:
    return None if text is None else unquote(text)


def driver(url: str, member: bytes, encoded: bool) -> Any:
    """What does the work: `Locks` for databases, else a driver of tooz."""
    parts = urlsplit(url)
    if "@" in parts.path + parts.fragment and parts.netloc:
        raise ValueError("a / or # comes before the @")
    if "," not in parts.netloc:  # ZooKeeper's may be several
        parts.port  # noqa: B018 - evaluated for its error
    if parts.scheme.partition("+")[0] in locks.SCHEMES:
        # tooz would connect to PostgreSQL without regard to what the URL says about TLS.
        return locks.Locks(url)
    if not encoded:
        driver: Any = coordination.get_coordinator(url, member, None, **IN_THIS_THREAD)
    else:
        options = parse_qs(parts.query) | {name: [value] for name, value in IN_THIS_THREAD.items()}
        driver = DriverManager(
            coordination.TOOZ_BACKENDS_NAMESPACE,
            parts.scheme,
            invoke_on_load=True,
            invoke_args=(member, _Decoded(*parts), options),
        ).driver
    if parts.scheme == "redis":
        _give_up_soon(driver)
    return driver


def _give_up_soon(driver: Any) -> None:
    """Keep the library of Redis from trying for a minute to reach a server, without a word.

    tooz tries again by itself, and has no option for it. Whoever calls reports a failure, and
    tries again later.
    """
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    make = getattr(driver, "_make_client", None)
    if make is None:
        return  # another release of tooz; its failures are late, and no less reported

    def make_client(*args: Any, **options: Any) -> Any:
        client = make(*args, **options)
        client.set_retry(Retry(NoBackoff(), 0))
        return client

    driver._make_client = make_client


def secrets(url: str) -> set[str]:
    """What must not be shown of a URL."""
    _, at, _ = (rest := url.partition("://")[2]).rpartition("@")
    found = {rest.rpartition("@")[0].partition(":")[2]} if at else set()
    query = parse_qsl(url.partition("?")[2])
    found |= {value for name, value in query if "password" in name or "passwd" in name}
    return {spelt for text in found if text for spelt in (text, unquote(text))}
