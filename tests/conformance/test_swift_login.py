"""How the Swift driver authenticates, what it says if it cannot, and its other options."""

from __future__ import annotations

import http.server
import json
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
import swiftclient
from swiftclient.client import HTTPConnection

from gnocchi import errors
from gnocchi.drivers.swift import SwiftIncoming, SwiftStorage
from gnocchi.drivers.swift_login import Account, Login
from tests import servers
from tests.conformance.points import in_sacks, values
from tests.conformance.test_swift import client_of, configuration, containers
from tests.conformance.waiting import take_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests


def works(conf: Any) -> SwiftStorage:
    """Store something and read it."""
    storage = SwiftStorage(conf)
    storage.upgrade()
    storage.put("x", b"0123")
    assert storage.read("x", 1, 2) == b"12"
    return storage


def token_of(conf: Any) -> str:
    return Login(Account.of(conf)).entry().token


def refuses(conf: Any, error: type[errors.GnocchiError], match: str) -> None:
    """Both halves fail to upgrade with one line, which tells no secret."""
    for call in (lambda: SwiftStorage(conf).upgrade(), lambda: SwiftIncoming(conf, 4).upgrade()):
        with pytest.raises(error, match=match) as caught:
            call()
        text = str(caught.value)
        assert "\n" not in text
        for secret in (conf.swift_key, conf.swift_preauthtoken):
            assert not secret or secret not in text


# -------------------------------------------------------------------- options that cannot be right


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"swift_auth_version": "4"}, "swift_auth_version"),
        ({"swift_authurl": "localhost:8080"}, "swift_authurl"),
        ({"swift_authurl": ""}, "swift_authurl"),
        ({"swift_authurl": "http://[/"}, "swift_authurl"),
        ({"swift_url": "ftp://localhost/v1/AUTH_x"}, "swift_url"),
        ({"swift_cacert": "/does/not/exist"}, "swift_cacert"),
        ({"swift_auth_version": "3", "swift_user": "gnocchi"}, "swift_project_name"),
        ({"swift_auth_version": "2", "swift_user": "gnocchi"}, "swift_project_name"),
        ({"swift_container_prefix": "a/b"}, "swift_container_prefix"),
        ({"swift_container_prefix": "x" * 201}, "swift_container_prefix"),
    ],
)
def test_option_that_cannot_be_right_is_named(
    swift_server: servers.SwiftServer, options: dict[str, Any], told: str
) -> None:
    conf = configuration(swift_server, **options)
    with pytest.raises(errors.Misconfigured, match=told):
        SwiftStorage(conf)
    with pytest.raises(errors.Misconfigured, match=told):
        SwiftIncoming(conf, 4)


def test_secrets_are_in_no_representation(swift_server: servers.SwiftServer) -> None:
    account = Account.of(configuration(swift_server, swift_preauthtoken="some-token"))
    assert servers.SWIFT_KEY not in repr(account)
    assert "some-token" not in repr(account)
    entry = Login(Account.of(configuration(swift_server))).entry()
    assert entry.token not in repr(entry)
    assert entry.token not in str(entry)


# -------------------------------------------------------------------- version 1


@pytest.mark.parametrize("version", ["1", "1.0"])
def test_version_1_works(swift_server: servers.SwiftServer, version: str) -> None:
    works(configuration(swift_server, swift_auth_version=version))


def test_user_and_key_have_the_defaults_of_a_fresh_swift(
    swift_server: servers.SwiftServer,
) -> None:
    works(configuration(swift_server, swift_user="admin:admin", swift_key="admin"))


@pytest.mark.parametrize(
    "options",
    [
        {"swift_key": "wrong-key"},
        {"swift_user": "gnocchi:nobody"},
        {"swift_user": servers.SWIFT_GUEST, "swift_key": servers.SWIFT_GUEST_KEY},
    ],
    ids=["key", "user", "no permission"],
)
def test_wrong_credentials_are_told(
    swift_server: servers.SwiftServer, options: dict[str, str]
) -> None:
    right = configuration(swift_server)
    SwiftIncoming(right, 4).upgrade()
    refuses(configuration(swift_server, **options), errors.Misconfigured, "credentials|permission")
    # Once it works, it may pass: keys are being changed.
    conf = configuration(swift_server, **options)
    conf.swift_container_prefix = right.swift_container_prefix
    with pytest.raises(errors.Unavailable, match=r"credentials|permission") as caught:
        SwiftIncoming(conf, 4).add(in_sacks(4, [1], 1.0))
    assert conf.swift_key not in str(caught.value)


def test_url_replaces_that_of_the_authentication_service(
    swift_server: servers.SwiftServer,
) -> None:
    """Which may name another network's; or an account to which the user has no right."""
    works(configuration(swift_server, swift_url=f"{swift_server.url}/v1/AUTH_gnocchi/"))
    theirs = configuration(swift_server, swift_url=f"{swift_server.url}/v1/AUTH_other")
    refuses(theirs, errors.Misconfigured, "permission")
    nothing = configuration(swift_server, swift_url=f"{swift_server.url}/v1")
    refuses(nothing, errors.Misconfigured, "swift_url|permission")


def test_token_is_used_instead_of_a_password(swift_server: servers.SwiftServer) -> None:
    token = token_of(configuration(swift_server))
    url = f"{swift_server.url}/v1/AUTH_gnocchi"
    conf = configuration(
        swift_server, swift_preauthtoken=token, swift_url=url, swift_user="", swift_key=""
    )
    works(conf)
    conf.swift_preauthtoken = "AUTH_tk0123456789"
    refuses(conf, errors.Misconfigured, "credentials")


@pytest.mark.parametrize("with_url", [True, False])
def test_token_that_has_expired_is_replaced(
    swift_server: servers.SwiftServer, with_url: bool
) -> None:
    url = f"{swift_server.url}/v1/AUTH_gnocchi" if with_url else None
    works(configuration(swift_server, swift_preauthtoken="AUTH_tk0123456789", swift_url=url))


def test_one_login_serves_all_threads(
    swift_server: servers.SwiftServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    logins: list[str] = []
    real = HTTPConnection._request

    def request(connection: Any, method: str, url: str, **arguments: Any) -> requests.Response:
        if url.startswith(swift_server.auth_url):
            logins.append(url)
        return real(connection, method, url, **arguments)

    monkeypatch.setattr(HTTPConnection, "_request", request)
    incoming = SwiftIncoming(configuration(swift_server), 1000)
    incoming.upgrade()
    for _ in range(2):
        logins.clear()
        swift_server.forget_tokens()
        incoming.add(in_sacks(1000, range(1000), 1.0))  # one request for each of four containers
        assert len(logins) == 1
    assert len(take_all(incoming).points) == 2000


def test_policy_is_that_of_new_containers(swift_server: servers.SwiftServer) -> None:
    first, other = servers.SWIFT_POLICIES
    client = client_of(swift_server)
    try:
        for policy, used in ((None, first), (other, other)):
            conf = configuration(swift_server, swift_storage_policy=policy)
            works(conf)
            (name, *_) = containers(client, conf.swift_container_prefix)
            assert client.head_container(name)["x-storage-policy"] == used
        conf.swift_storage_policy = first
        works(conf)
        assert client.head_container(name)["x-storage-policy"] == other
    finally:
        client.close()
    conf = configuration(swift_server, swift_storage_policy="platinum")
    refuses(conf, errors.Misconfigured, "swift_storage_policy, platinum")


def test_page_in_place_of_an_authentication_service_is_told(
    swift_server: servers.SwiftServer,
) -> None:
    conf = configuration(swift_server, swift_authurl=f"{swift_server.url}/healthcheck")
    refuses(conf, errors.Misconfigured, "no authentication service")
    conf = configuration(swift_server, swift_authurl=f"{swift_server.url}/elsewhere")
    refuses(conf, errors.Unavailable, "answered 4|credentials")


# -------------------------------------------------------------------- what is logged


def test_log_holds_neither_keys_nor_tokens(
    swift_server: servers.SwiftServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    conf = configuration(swift_server)
    token = token_of(conf)
    works(conf).delete([*"abcdef"])
    bad = configuration(swift_server, swift_key="a-wrong-key")
    refuses(bad, errors.Misconfigured, "credentials")
    assert "swiftclient" in {record.name for record in caplog.records}
    for secret in (token, servers.SWIFT_KEY, "a-wrong-key"):
        assert secret[:12] not in caplog.text


# -------------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def tls_server(swift_server: servers.SwiftServer) -> Iterator[servers.SwiftServer]:
    with servers.swift(tls=True, bulk=False) as server:
        yield server


def test_certificate_is_verified(tls_server: servers.SwiftServer) -> None:
    refuses(configuration(tls_server), errors.Unavailable, "certificate verify failed")
    refuses(
        configuration(
            tls_server, swift_preauthtoken="x", swift_url=f"{tls_server.url}/v1/AUTH_gnocchi"
        ),
        errors.Unavailable,
        "certificate verify failed",
    )


def test_authority_can_be_named(tls_server: servers.SwiftServer) -> None:
    works(configuration(tls_server, swift_cacert=str(tls_server.certificate)))


def test_verification_can_be_left_out(tls_server: servers.SwiftServer) -> None:
    storage = works(configuration(tls_server, swift_auth_insecure=True))
    storage.delete(["x", *"abcdef"])  # one by one: this Swift has no bulk delete
    assert list(storage.list()) == []


# -------------------------------------------------------------------- Keystone


@pytest.fixture(scope="module")
def keystone_swift(
    swift_server: servers.SwiftServer, keystone_server: servers.Server
) -> Iterator[servers.SwiftServer]:
    with servers.swift(keystone=keystone_server) as server:
        yield server


@pytest.fixture
def conf(keystone_swift: servers.SwiftServer, keystone_server: servers.Server) -> Any:
    return configuration(
        keystone_swift,
        swift_auth_version="3",
        swift_authurl=keystone_server.url,
        swift_user="admin",
        swift_key=servers.ADMIN_PASSWORD,
        swift_project_name="admin",
    )


def test_version_3_works(conf: Any) -> None:
    works(conf)
    incoming = SwiftIncoming(conf, 4)
    incoming.upgrade()
    incoming.add(in_sacks(4, [1], 1.0))
    taken = take_all(incoming)
    assert values(taken) == [1.0]
    incoming.discard(taken)


def test_url_of_keystone_may_lack_its_version(conf: Any) -> None:
    conf.swift_authurl = conf.swift_authurl.removesuffix("/v3")
    works(conf)


def test_project_may_come_with_the_user(conf: Any) -> None:
    conf.swift_project_name, conf.swift_user = None, "admin:admin"
    works(conf)


@pytest.mark.parametrize("endpoint", ["publicURL", "internalURL", "adminURL"])
def test_region_and_endpoint_select_from_the_catalogue(conf: Any, endpoint: str) -> None:
    conf.swift_region, conf.swift_endpoint_type = servers.SWIFT_REGION, endpoint
    works(conf)


@pytest.mark.parametrize(
    "options", [{"swift_region": "elsewhere"}, {"swift_service_type": "no-store"}]
)
def test_what_the_catalogue_lacks_is_told(conf: Any, options: dict[str, str]) -> None:
    vars(conf).update(options)
    refuses(conf, errors.Misconfigured, next(iter(options.values())))


@pytest.mark.parametrize(
    "options",
    [
        {"swift_key": "wrong-key"},
        {"swift_project_name": "nothing"},
        {"swift_user_domain_name": "Elsewhere"},
        {"swift_project_domain_name": "Elsewhere"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_keystone_refuses_is_told(conf: Any, options: dict[str, str]) -> None:
    vars(conf).update(options)
    refuses(conf, errors.Misconfigured, "credentials")


def test_token_of_keystone_is_used_instead_of_a_password(conf: Any) -> None:
    conf.swift_preauthtoken = token_of(conf)
    conf.swift_user = conf.swift_key = ""
    works(conf)  # the catalogue is found with it
    conf.swift_url = Login(Account.of(conf)).entry().url
    conf.swift_project_name = None
    conf.swift_authurl = "http://127.0.0.1:1/v3"
    works(conf)


@pytest.mark.parametrize("with_url", [True, False])
def test_token_of_keystone_that_has_expired_is_replaced(conf: Any, with_url: bool) -> None:
    if with_url:
        conf.swift_url = Login(Account.of(conf)).entry().url
    conf.swift_preauthtoken = "gAAAAABexpired"
    works(conf)


def test_log_holds_no_token_of_keystone(conf: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    storage = works(conf)
    token = storage._containers._connection._login.entry().token
    for secret in (token, servers.ADMIN_PASSWORD):
        assert secret[:12] not in caplog.text


class _KeystoneOfOld(http.server.BaseHTTPRequestHandler):
    """Version 2 of Keystone's interface, which none has had for years, with a token of Swift's."""

    def do_POST(self) -> None:
        server: Any = self.server
        server.asked.append((self.path, json.loads(self._body())))
        catalogue = [
            {
                "type": "object-store",
                "name": "swift",
                "endpoints": [
                    {"region": name, "publicURL": url, "internalURL": url, "adminURL": url}
                    for name, url in (("other", "http://127.0.0.1:1/"), ("here", server.storage))
                ],
            }
        ]
        token = {"id": server.token, "expires": "2099-01-01T00:00:00Z", "tenant": {"id": "1"}}
        body = json.dumps({"access": {"token": token, "serviceCatalog": catalogue, "user": {}}})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def log_message(self, *_: Any) -> None:
        """Nobody wants to know."""


def test_version_2_works(swift_server: servers.SwiftServer) -> None:
    keystone: Any = http.server.HTTPServer(("127.0.0.1", 0), _KeystoneOfOld)
    keystone.asked, keystone.token = [], token_of(configuration(swift_server))
    keystone.storage = f"{swift_server.url}/v1/AUTH_gnocchi"
    thread = threading.Thread(target=keystone.serve_forever)
    thread.start()
    try:
        works(
            configuration(
                swift_server,
                swift_auth_version="2",
                swift_authurl=f"http://127.0.0.1:{keystone.server_port}/v2.0",
                swift_user="me",
                swift_key="my-key",
                swift_project_name="mine",
                swift_region="here",
            )
        )
    finally:
        keystone.shutdown()
        thread.join()
        keystone.server_close()
    credentials = {"username": "me", "password": "my-key"}
    sent = {"auth": {"passwordCredentials": credentials, "tenantName": "mine"}}
    assert keystone.asked == [("/v2.0/tokens", sent)]


def test_other_programs_of_the_account_are_not_disturbed(
    swift_server: servers.SwiftServer,
) -> None:
    """What the library is told about its log concerns secrets alone."""
    assert swiftclient.client.logger_settings["redact_sensitive_headers"]
    client = client_of(swift_server)
    before = {entry["name"]: entry["count"] for entry in client.get_account()[1]}
    works(configuration(swift_server)).delete(["x"])
    after = {entry["name"]: entry["count"] for entry in client.get_account()[1]}
    client.close()
    assert before.items() <= after.items()
