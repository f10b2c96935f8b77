"""What clients are told when something behind the API fails."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Any

import pytest

from gnocchi import errors
from tests.rest import runner

if TYPE_CHECKING:
    import pathlib

    from tests.rest.conftest import Deployer, Deployment

POLICY = runner.SETUPS["policy-two"] | {"as": "admin"}
MEASURES = {"json_body": [{"timestamp": "2024-01-01T00:00:00", "value": 1}], "as": "admin"}


def with_metric(deployment: Deployment) -> str:
    """Make a metric; return the path of its measures."""
    runner.send(deployment.client, POLICY)
    request = {"request": "POST /v1/metric", "json_body": {"archive_policy_name": "two"}}
    metric = runner.send(deployment.client, request | {"as": "admin"}).json["id"]
    return f"/v1/metric/{metric}/measures"


def failing(error: Exception) -> Any:
    """Make a function that raises."""

    def fail(*_args: Any, **_kwargs: Any) -> Any:
        raise error

    return fail


def test_measures_that_could_not_be_stored_are_not_acknowledged(
    deploy: Deployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An incoming store that does not answer is a 503, so that the client sends again."""
    deployment = deploy()
    path = with_metric(deployment)
    error = errors.Unavailable("disk full")
    monkeypatch.setattr(deployment.services.incoming, "add", failing(error))
    response = runner.send(deployment.client, MEASURES | {"request": f"POST {path}"})
    assert response.status_int == 503
    assert response.json["title"] == "Service Unavailable"


def test_status_asks_to_retry_when_a_backend_does_not_answer(
    deploy: Deployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text of a status that cannot be made is fixed."""
    deployment = deploy()
    error = errors.Unavailable("no route to host")
    monkeypatch.setattr(deployment.services.incoming, "backlog", failing(error))
    response = runner.send(deployment.client, {"request": "GET /v1/status", "as": "admin"})
    assert response.status_int == 503
    assert response.json["description"] == "Unable to generate status. Please retry."


def test_refresh_of_a_locked_metric_asks_to_try_again(
    deploy: Deployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The metric is named in the answer."""
    deployment = deploy()
    path = with_metric(deployment)
    metric = path.split("/")[3]

    def locked(_services: Any, metrics: Any, timeout_s: float) -> None:
        assert timeout_s == 10
        raise errors.MetricsLocked([one.id for one in metrics])

    monkeypatch.setattr("gnocchi.engine.process.refresh", locked)
    response = runner.send(deployment.client, {"request": f"GET {path}?refresh=1", "as": "admin"})
    assert response.status_int == 503
    assert response.json["description"] == (
        f"Unable to refresh metric: {metric}. Metric is locked. Please try again."
    )


@pytest.mark.parametrize("accept", [None, "application/json", "text/html"])
def test_a_defect_is_answered_and_logged(
    deploy: Deployer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    accept: str | None,
) -> None:
    """Clients without a time-out wait for ever for an answer that never comes."""
    deployment = deploy()
    monkeypatch.setattr("gnocchi.indexer.policies.get", failing(ZeroDivisionError("defect")))
    request = {"request": "GET /v1/archive_policy/x", "as": "admin", "accept": accept}
    if accept == "text/html":
        request["accept"] = "text/html, application/json;q=0.1"
    with caplog.at_level(logging.ERROR):
        response = runner.send(deployment.client, request)
    assert response.status_int == 500
    assert "500" in response.text
    assert "defect" not in response.text
    assert caplog.records[0].exc_info is not None


def test_a_defect_in_front_of_the_api_is_answered_too(
    deploy: Deployer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing that is raised anywhere reaches the WSGI server."""
    deployment = deploy()
    monkeypatch.setattr("gnocchi.rest.app.Application.route", failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        runner.send(deployment.client, {"request": "GET /", "as": None})
    monkeypatch.setattr("gnocchi.rest.errors.refusal", failing(ZeroDivisionError("defect")))
    monkeypatch.setattr("gnocchi.rest.app.Application.route", failing(ZeroDivisionError()))
    response = runner.send(deployment.client, {"request": "GET /", "as": None})
    assert response.status_int == 500
    assert response.json["code"] == 500
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "place", ["gnocchi.indexer.policies.get", "gnocchi.rest.app.Application.__call__"]
)
def test_a_defect_can_be_read_by_pages_of_allowed_origins(
    deploy: Deployer, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Without the header the page sees a failure of the network, whatever the answer."""
    origin = "http://grafana.example"
    deployment = deploy({"cors.allowed_origin": [origin]})
    monkeypatch.setattr(place, failing(ZeroDivisionError("defect")))
    request = {"request": "GET /v1/archive_policy/x", "as": "admin", "send": {"Origin": origin}}
    response = runner.send(deployment.client, request)
    assert response.status_int == 500
    assert response.json["code"] == 500
    assert response.headers["Access-Control-Allow-Origin"] == origin


class Torn(io.BytesIO):
    """A body whose sender goes away."""

    def read(self, size: int | None = -1) -> bytes:
        """Fail, as servers do."""
        raise OSError("connection reset")


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({"wsgi.input": io.BytesIO(b"[]"), "wsgi.input_terminated": True}, 202),
        ({"wsgi.input": io.BytesIO(b"[]"), "CONTENT_LENGTH": ""}, 400),
        ({"wsgi.input": io.BytesIO(b"[]"), "CONTENT_LENGTH": "two"}, 400),
        ({"wsgi.input": io.BytesIO(b"[]"), "CONTENT_LENGTH": "50"}, 202),
        ({"wsgi.input": io.BytesIO(b"[{"), "CONTENT_LENGTH": "50"}, 400),
        ({"wsgi.input": Torn(), "CONTENT_LENGTH": "50"}, 400),
        (
            {
                "wsgi.input": io.BytesIO(b"[" + b" " * 2000 + b"]"),
                "wsgi.input_terminated": True,
            },
            413,
        ),
    ],
)
def test_bodies_arrive_in_chunks_or_not_whole(
    deploy: Deployer, environ: dict[str, Any], status: int
) -> None:
    """A body needs no length where the server knows its end; one cut short is refused."""
    deployment = deploy({"api.max_body_size": 1024})
    path = with_metric(deployment)
    answers: list[str] = []
    request = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "CONTENT_TYPE": "application/json",
        "HTTP_AUTHORIZATION": "basic YWRtaW46",
        **environ,
    }
    deployment.client.app(request, lambda status, _headers, _exc=None: answers.append(status))
    assert int(answers[0][:3]) == status


def test_an_unknown_mode_of_authentication_stops_the_start(deploy: Deployer) -> None:
    """Serving without authentication would be worse."""
    with pytest.raises(errors.Misconfigured, match="auth_mode 'nobody'"):
        deploy({"api.auth_mode": "nobody"})


def test_a_limit_of_the_future_that_is_no_timespan_stops_the_start(deploy: Deployer) -> None:
    """No limit at all would be a surprise."""
    with pytest.raises(errors.Misconfigured, match="max_future"):
        deploy({"api.max_future": "some day"})


def test_a_policy_file_that_cannot_be_read_stops_the_start(
    deploy: Deployer, tmp_path: pathlib.Path
) -> None:
    """Rules somebody wrote must not be left out silently."""
    file = tmp_path / "policy.yaml"
    for content in ("[not: closed", "- a list", "42"):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(errors.Misconfigured, match="Policy file"):
            deploy({"oslo_policy.policy_file": str(file)})
