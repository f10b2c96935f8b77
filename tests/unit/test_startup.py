"""What commands do first and last."""

from __future__ import annotations

import threading

import pytest

from gnocchi import errors, startup


class Flaky:
    """Fails as often as told, then answers."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.calls = 0
        self._failures = failures
        self._error = error

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self._failures:
            raise self._error
        return "answer"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "FIRST_PAUSE_S", 0.0)


def test_server_that_answers_late_is_waited_for() -> None:
    flaky = Flaky(3, errors.Unavailable("down"))
    assert startup.until_available(flaky) == "answer"
    assert flaky.calls == 4


def test_attempts_are_bounded_when_asked_for() -> None:
    flaky = Flaky(3, errors.Unavailable("down"))
    with pytest.raises(errors.Unavailable, match="down"):
        startup.until_available(flaky, attempts=2)
    assert flaky.calls == 2


def test_misconfiguration_is_not_waited_for() -> None:
    flaky = Flaky(1, errors.Misconfigured("wrong"))
    with pytest.raises(errors.Misconfigured, match="wrong"):
        startup.until_available(flaky)
    assert flaky.calls == 1


def test_waiting_ends_when_told_to_stop() -> None:
    stop = threading.Event()
    stop.set()
    flaky = Flaky(3, errors.Unavailable("down"))
    with pytest.raises(errors.Unavailable):
        startup.until_available(flaky, stop=stop)
    assert flaky.calls == 1


def test_status_is_that_of_the_command() -> None:
    assert startup.run("gnocchi-x", lambda: 3) == 3


@pytest.mark.parametrize("kind", [errors.Misconfigured, errors.Unavailable])
def test_refusal_is_one_line_and_status_1(
    capsys: pytest.CaptureFixture[str], kind: type[errors.GnocchiError]
) -> None:
    assert startup.run("gnocchi-x", Flaky(1, kind("first line\n  second line"))) == 1  # type: ignore[arg-type]
    assert capsys.readouterr().err == "gnocchi-x: first line second line\n"


def test_defect_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        startup.run("gnocchi-x", Flaky(1, ZeroDivisionError()))  # type: ignore[arg-type]
