"""What a ``redis_url`` means, and that an error never shows its secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gnocchi.drivers.redis_server import Server
from gnocchi.drivers.redis_url import TIMEOUT_S, parse
from gnocchi.errors import Misconfigured

if TYPE_CHECKING:
    import pathlib


@pytest.fixture
def pem(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "some.pem"
    path.write_text("of no importance here")
    return str(path)


# ------------------------------------------------------------------ where it is


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", 2.0),
        ("socket_timeout=1", 1.0),
        ("retry_on_timeout=true", 1.0),
        ("sentinel=master", 1.0),  # first the sentinels, then the master
        ("sentinel=master&retry_on_timeout=true", 0.5),
    ],
)
def test_waits_that_add_up_end_in_time_together(options: str, expected: float) -> None:
    assert parse(f"redis://host?{options}").within(2.0).timeout_s == expected


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("redis://localhost:6379/", "localhost", 6379),
        ("redis://", "localhost", 6379),
        ("redis:///", "localhost", 6379),
        ("redis://example.com", "example.com", 6379),
        ("redis://example.com:1", "example.com", 1),
        ("redis://[::1]:7000/", "::1", 7000),
        ("redis://user:pass@10.0.0.1:65535", "10.0.0.1", 65535),
        ("redis://sentinel?sentinel=m", "sentinel", 26379),
    ],
)
def test_host_and_port_are_read(url: str, host: str, port: int) -> None:
    target = parse(url)
    assert (target.host, target.port, target.path) == (host, port, None)


def test_path_without_a_host_is_a_socket() -> None:
    target = parse("redis:///run/a%20redis.sock?db=2")
    assert target.path == "/run/a redis.sock"
    assert target.connection["db"] == 2


def test_socket_may_need_a_password() -> None:
    target = parse("redis://:secret@/run/redis.sock")
    assert target.path == "/run/redis.sock"
    assert target.connection["password"] == "secret"


def test_path_after_a_host_means_nothing() -> None:
    target = parse("redis://example.com/3")
    assert target.path is None
    assert target.connection["db"] == 0


# ------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("credentials", "username", "password"),
    [
        ("", None, None),
        (":secret@", None, "secret"),
        ("user:secret@", "user", "secret"),
        ("us%40er:se%3Acr%2Fet%3F@", "us@er", "se:cr/et?"),
    ],
)
def test_user_and_password_are_decoded(
    credentials: str, username: str | None, password: str | None
) -> None:
    connection = parse(f"redis://{credentials}host").connection
    assert (connection["username"], connection["password"]) == (username, password)


def test_options_have_their_types() -> None:
    target = parse(
        "redis://host?db=7&encoding=utf-8&socket_timeout=1.5&health_check_interval=30"
        "&retry_on_timeout=yes&socket_keepalive=0&cluster=no"
    )
    assert target.connection["db"] == 7
    assert target.timeout_s == 1.5
    assert target.connection["health_check_interval"] == 30.0
    assert target.connection["socket_keepalive"] is False
    assert target.retry_on_timeout is True
    assert target.cluster is False


def test_calls_are_bounded_by_default() -> None:
    assert parse("redis://host").timeout_s == TIMEOUT_S
    assert parse("redis://host").retry_on_timeout is False


@pytest.mark.parametrize(
    ("query", "option"),
    [
        ("db=one", "db"),
        ("db=-1", "db"),
        ("db=", "db"),
        ("db=1&db=2", "db"),
        ("db=1&cluster=true", "db"),
        ("socket_timeout=0", "socket_timeout"),
        ("socket_timeout=inf", "socket_timeout"),
        ("socket_timeout=nan", "socket_timeout"),
        ("socket_timeout=soon", "socket_timeout"),
        ("health_check_interval=-1", "health_check_interval"),
        ("retry_on_timeout=perhaps", "retry_on_timeout"),
        ("socket_keepalive=2", "socket_keepalive"),
        ("encoding=klingon", "encoding"),
        ("ssl=of course", "ssl"),
        ("ssl=true&ssl_ca_certs=/does/not/exist", "ssl_ca_certs"),
        ("ssl=true&ssl_certfile=", "ssl_certfile"),
        ("sentinel=", "sentinel"),
        ("sentinel_fallback=host:1", "sentinel_fallback"),
        ("sentinel_password=other-secret", "sentinel_password"),
        ("sentinel=m&sentinel_fallback=host", "sentinel_fallback"),
        ("sentinel=m&sentinel_fallback=host:x", "sentinel_fallback"),
        ("sentinel=m&sentinel_fallback=:1", "sentinel_fallback"),
        ("sentinel=m&sentinel_fallback=host:70000", "sentinel_fallback"),
        ("sentinel=m&cluster=true", "cluster"),
        ("sentinel=m&sentinel_password=other-secret&db=x", "db"),
        ("no_such_option=1", "no_such_option"),
    ],
)
def test_option_that_cannot_be_used_is_named_and_no_secret_is(query: str, option: str) -> None:
    with pytest.raises(Misconfigured, match=f"^redis_url: .*{option}") as caught:
        parse(f"redis://user:secret@host?{query}")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:secret/more@host",
        "redis://user:secret?more@host",
        "redis://user:secret#more@host",
        "redis://user:secret@host:port",
        "redis://user:secret@host:70000",
        "redis://user:secret@host:0",
        "redis://user:secret@[host",
        "redis://user:secret@host#",
        "http://user:secret@host",
        "unix://user:secret@/run/redis.sock",
        "user:secret@host",
        "",
    ],
)
def test_url_that_cannot_be_read_is_not_shown(url: str) -> None:
    with pytest.raises(Misconfigured, match=r"^redis_url: ") as caught:
        parse(url)
    assert "secret" not in str(caught.value)
    assert "more" not in str(caught.value)


@pytest.mark.parametrize("option", ["sentinel=m", "cluster=true", "ssl=true"])
def test_socket_is_of_one_server_without_tls(option: str) -> None:
    with pytest.raises(Misconfigured, match=option.partition("=")[0]):
        parse(f"redis:///run/redis.sock?{option}")


def test_secrets_are_not_in_what_is_printed() -> None:
    target = parse("redis://u:secret@host?sentinel=m&sentinel_password=hidden")
    assert "secret" not in repr(target) + target.label
    assert "hidden" not in repr(target) + target.label
    assert set(target.secrets) == {"secret", "hidden"}


# ------------------------------------------------------------------ TLS


@pytest.mark.parametrize("url", ["rediss://host?", "redis://host?ssl=true&"])
def test_tls_verifies_certificate_and_name(url: str, pem: str) -> None:
    connection = parse(f"{url}ssl_ca_certs={pem}&ssl_certfile={pem}&ssl_keyfile={pem}").connection
    assert connection["ssl"] is True
    assert connection["ssl_cert_reqs"] == "required"
    assert connection["ssl_check_hostname"] is True
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        assert connection[name] == pem


def test_without_tls_there_is_none() -> None:
    assert "ssl" not in parse("redis://host").connection
    assert "ssl" not in parse("redis://host?ssl=false").connection


def test_certificates_without_tls_are_refused(pem: str) -> None:
    """Rather than to leave somebody in the belief that the connection is secure."""
    with pytest.raises(Misconfigured, match="ssl_ca_certs"):
        parse(f"redis://host?ssl_ca_certs={pem}")


def test_contradiction_about_tls_is_refused() -> None:
    with pytest.raises(Misconfigured, match="ssl"):
        parse("rediss://host?ssl=false")


def test_key_without_its_certificate_is_refused(pem: str) -> None:
    with pytest.raises(Misconfigured, match="ssl_keyfile"):
        parse(f"rediss://host?ssl_keyfile={pem}")


# ------------------------------------------------------------------ sentinels


def test_all_sentinels_are_known_in_order() -> None:
    target = parse(
        "redis://one:1?sentinel=m&sentinel_fallback=two:2&sentinel_fallback=[::3]:3"
        "&sentinel_username=watcher&sentinel_password=hidden&db=4"
    )
    assert target.sentinel == "m"
    assert target.sentinels == (("one", 1), ("two", 2), ("::3", 3))
    assert target.sentinel_connection["username"] == "watcher"
    assert target.sentinel_connection["password"] == "hidden"
    assert "ssl" not in target.sentinel_connection
    assert "db" not in target.sentinel_connection
    assert target.connection["db"] == 4


def test_sentinels_by_tls_trust_the_same_authority(pem: str) -> None:
    target = parse(f"redis://one?sentinel=m&sentinel_ssl=true&ssl_ca_certs={pem}")
    assert target.sentinel_connection["ssl"] is True
    assert target.sentinel_connection["ssl_ca_certs"] == pem
    assert "ssl" not in target.connection


@pytest.mark.parametrize(
    ("query", "sentinel", "server"),
    [("", True, True), ("&sentinel_ssl=false", False, True)],
)
def test_rediss_means_the_sentinels_too_unless_told_otherwise(
    query: str, sentinel: bool, server: bool
) -> None:
    target = parse(f"rediss://one?sentinel=m{query}")
    assert target.sentinel_connection.get("ssl", False) is sentinel
    assert target.connection.get("ssl", False) is server


# ------------------------------------------------------------------ connections


def test_nothing_is_connected_before_the_first_call() -> None:
    for options in ("", "?cluster=true", "?sentinel=m"):
        Server(f"redis://no.such.host.invalid{options}").disconnect()
