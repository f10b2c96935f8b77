"""How the API is put together: paste files of today and of older releases, and Keystone."""

from __future__ import annotations

import builtins
import logging
import pathlib
from typing import TYPE_CHECKING, Any

import pytest
import webtest

from gnocchi import errors
from gnocchi.rest import app, pipelines
from tests import samples
from tests.rest import runner

if TYPE_CHECKING:
    from tests.rest.conftest import Deployer

ROOT = pathlib.Path(__file__).parents[2]

KEYSTONE = """
[keystone_authtoken]
auth_uri = http://keystone.example:5000
auth_type = password
auth_url = http://127.0.0.1:9
username = gnocchi
password = secret
"""


def get(client: Any, path: str, user: str | None = "admin", **environ: str) -> Any:
    """Send a GET in mode ``basic``."""
    step = {"request": f"GET {path}", "as": user, "environ": environ}
    return runner.send(client, step)


@pytest.fixture
def with_file(deploy: Deployer, tmp_path: pathlib.Path) -> Any:
    """Deploy with the text of a paste file."""

    def deploy_with(text: str, file: str = "", **options: str) -> Any:
        paste = tmp_path / "paste.ini"
        paste.write_text(text, encoding="utf-8")
        named = {f"api.{name}": value for name, value in options.items()}
        return deploy({"api.paste_config": str(paste), **named}, file).client

    return deploy_with


def test_the_sample_is_the_file_that_is_built_in() -> None:
    """An operator who copies it changes nothing."""
    sample = (ROOT / "etc" / "gnocchi" / "api-paste.ini").read_text(encoding="utf-8")
    assert sample == pipelines.DEFAULT_FILE.read_text(encoding="utf-8")


@pytest.mark.parametrize("main", ["gnocchi+noauth", "http_proxy_to_wsgi gnocchi+noauth"])
def test_a_file_of_an_older_release_serves_as_before(
    with_file: Any, main: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is used through its ``main``, and the operator is told."""
    client = with_file(samples.PASTE.format(main=main))
    assert "gnocchi+basic" in caplog.text
    assert "outdated" in caplog.text
    assert get(client, "/").json["versions"][0]["links"][0]["href"] == "http://localhost/v1/"
    assert len(get(client, "/v1/").json["links"]) == 13
    assert get(client, "/v1/metric").json == []
    assert get(client, "/v1/metric", None).status_int == 401
    assert get(client, "/healthcheck", None).status_int == 200


def test_an_old_file_with_authentication_means_keystone(
    with_file: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever switched the pipeline must not find the API open for everybody's user names."""
    pytest.importorskip("keystonemiddleware")
    client = with_file(samples.PASTE.format(main="gnocchi+auth"), KEYSTONE)
    assert "auth_mode" in caplog.text
    assert get(client, "/", None).status_int == 200
    assert get(client, "/v1/", None).status_int == 401
    assert get(client, "/v1/metric").status_int == 401


@pytest.mark.parametrize("main", ["gnocchi+auth", "gnocchi+noauth"])
def test_a_mode_that_is_set_decides_about_an_old_file(with_file: Any, main: str) -> None:
    """The composite of the mode is served, whichever main names."""
    client = with_file(samples.PASTE.format(main=main), auth_mode="basic")
    assert get(client, "/v1/metric").json == []


def test_a_file_of_the_first_releases_has_one_application(with_file: Any) -> None:
    """Without a root it serves everything."""
    text = "[app:main]\npaste.app_factory = gnocchi.rest.app:app_factory\n"
    client = with_file(text)
    assert get(client, "/").status_int == 200
    assert get(client, "/v1/metric").json == []


def test_factories_of_other_packages_are_replaced(with_file: Any) -> None:
    """The file of release 4 names packages that need not be installed."""
    client = with_file(
        """
[composite:gnocchi+basic]
use = egg:Paste#urlmap
/ = gnocchiversions
/v1 = gnocchiv1
/healthcheck = health

[app:gnocchiversions]
paste.app_factory = gnocchi.rest.app:app_factory
root = gnocchi.rest.api.VersionsController

[app:gnocchiv1]
paste.app_factory = gnocchi.rest.app:app_factory
root = gnocchi.rest.api.V1Controller

[app:health]
use = egg:oslo.middleware#healthcheck
oslo_config_project = gnocchi
"""
    )
    assert get(client, "/v1/metric").json == []
    assert get(client, "/healthcheck", None).json == {"detailed": False, "reasons": []}


@pytest.mark.parametrize("path", ["/v1/metric", "//v1/metric", "/v1//metric/", "///v1///metric"])
def test_no_spelling_of_a_path_avoids_the_pipeline(with_file: Any, path: str) -> None:
    """Which application serves a path is decided by its segments."""
    client = with_file(
        f"""
[composite:main]
paste.composite_factory = gnocchi.rest.pipelines:url_map
/ = versions
/v1 = v1

[app:versions]
paste.app_factory = gnocchi.rest.app:app_factory
root = gnocchi.rest.VersionsController

[pipeline:v1]
pipeline = closed api

[filter:closed]
paste.filter_factory = {__name__}:closed

[app:api]
paste.app_factory = gnocchi.rest.app:app_factory
root = gnocchi.rest.V1Controller
"""
    )
    assert get(client, path).status_int == 418


def closed(_global_conf: dict[str, str]) -> Any:
    """A filter that lets nothing through."""

    def replace(_application: Any) -> Any:
        def answer(_environ: Any, start_response: Any) -> list[bytes]:
            start_response("418 Closed", [("Content-Type", "text/plain")])
            return [b""]

        return answer

    return replace


def test_mounting_deeper_keeps_addresses(with_file: Any) -> None:
    """An operator may put everything below a path in the file itself."""
    text = pipelines.DEFAULT_FILE.read_text(encoding="utf-8").replace(
        "gnocchi+basic]", "inner]"
    ) + (
        "\n[composite:gnocchi+basic]\n"
        "paste.composite_factory = gnocchi.rest.pipelines:url_map\n"
        "/ = gnocchiversions\n/metric/storage = inner\n"
    )
    client = with_file(text)
    index = get(client, "/metric/storage/v1/", None).json
    assert index["links"][0]["href"] == "http://localhost/metric/storage/v1"
    assert get(client, "/metric/storage/v1/metric").json == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[composite:other]\n", "neither gnocchi.basic nor main"),
        ("not an ini file", "paste.ini"),
        ("[composite:gnocchi+basic]\nuse = egg:nothing#here\n", "nothing"),
        (
            "[composite:main]\npaste.composite_factory = gnocchi.rest.pipelines:url_map\nv1 = x\n",
            "'v1' is not a path",
        ),
        (
            "[app:main]\npaste.app_factory = gnocchi.rest.app:app_factory\nroot = a.B\n",
            "no root a.B",
        ),
        ("[app:main]\npaste.app_factory = gnocchi.rest.nowhere:factory\n", "nowhere"),
    ],
)
def test_a_file_that_cannot_be_used_stops_the_start(
    with_file: Any, text: str, message: str
) -> None:
    """With the name of the file and what is wrong in it."""
    with pytest.raises(errors.Misconfigured, match=message):
        with_file(text)


def test_a_missing_file_is_told_and_replaced(
    deploy: Deployer, caplog: pytest.LogCaptureFixture
) -> None:
    """The API runs without any file at all."""
    client = deploy({"api.paste_config": "/nowhere/paste.ini"}).client
    assert get(client, "/v1/metric").json == []
    assert "/nowhere/paste.ini" in caplog.text


# ------------------------------------------------------------------ Keystone


def test_keystone_needs_its_middleware(deploy: Deployer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is named."""
    original = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("keystonemiddleware"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(errors.Misconfigured, match="needs keystonemiddleware"):
        deploy({"api.auth_mode": "keystone"})


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("", "auth_type is not set"),
        ("[keystone_authtoken]\nauth_type = no-such-plugin\n", "no-such-plugin"),
        ("[keystone_authtoken]\nauth_type = password\n", "auth_url"),
    ],
)
def test_options_that_keystone_cannot_work_with_stop_the_start(
    deploy: Deployer, file: str, message: str
) -> None:
    """Otherwise every request would fail."""
    pytest.importorskip("keystonemiddleware")
    with pytest.raises(errors.Misconfigured, match=message):
        deploy({"api.auth_mode": "keystone"}, file)


def test_keystone_refuses_before_the_api_is_reached(
    deploy: Deployer, caplog: pytest.LogCaptureFixture
) -> None:
    """The real middleware, with this program's configuration and the old name of an option."""
    pytest.importorskip("keystonemiddleware")
    with caplog.at_level(logging.WARNING):
        client = deploy({"api.auth_mode": "keystone"}, KEYSTONE).client
    assert "www_authenticate_uri" in caplog.text
    forged = {
        "HTTP_X_IDENTITY_STATUS": "Confirmed",
        "HTTP_X_USER_ID": "admin",
        "HTTP_X_PROJECT_ID": "p",
        "HTTP_X_ROLES": "admin",
    }
    for path in ("/v1/", "/v1/status", "/v1/capabilities"):
        response = get(client, path, **forged)
        assert response.status_int == 401
        challenge = response.headers["WWW-Authenticate"]
        assert challenge == 'Keystone uri="http://keystone.example:5000"'
    assert get(client, "/", None).status_int == 200
    assert runner.send(client, {"request": "OPTIONS /v1/metric", "as": None}).status_int == 200


def test_headers_are_not_believed_without_the_middleware(with_file: Any) -> None:
    """A file whose pipeline lacks the middleware closes the API instead of opening it."""
    text = pipelines.DEFAULT_FILE.read_text(encoding="utf-8")
    client = with_file(
        text.replace("pipeline = keystone_authtoken gnocchiv1", "pipeline = gnocchiv1"),
        KEYSTONE,
        auth_mode="keystone",
    )
    response = get(
        client,
        "/v1/status",
        None,
        HTTP_X_IDENTITY_STATUS="Confirmed",
        HTTP_X_USER_ID="admin",
        HTTP_X_PROJECT_ID="p",
        HTTP_X_ROLES="admin",
    )
    assert response.status_int == 401


def test_putting_together_twice_is_no_different(deploy: Deployer) -> None:
    """Servers do it once before they fork, to see whether it works, and again after."""
    pytest.importorskip("keystonemiddleware")
    services = deploy({"api.auth_mode": "keystone"}, KEYSTONE).services
    client = webtest.TestApp(app.build(services))
    assert get(client, "/v1/metric").status_int == 401
