"""The number of sacks changes on every store that measures may wait in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gnocchi import config, errors, service
from gnocchi.engine import division
from gnocchi.indexer import catalog
from tests import backends
from tests import engine_fixtures as fixtures

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator

    from gnocchi.service import Services


@pytest.fixture(params=["file", *backends.FIXTURES])
def make(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path
) -> Iterator[Callable[[], Services]]:
    """Makes services over the same stores, as processes of their own would have."""
    kind = request.param
    options: dict[str, object] = {"file_basepath": str(tmp_path), "file_sync": False}
    if kind != "file":
        with backends.of_its_own(f"sqlite+{kind}", request.getfixturevalue) as groups:
            options = dict(groups["incoming"])
    file = tmp_path / "gnocchi.conf"
    lines = [f"{name} = {value}" for name, value in {"driver": kind, **options}.items()]
    file.write_text("\n".join(["[storage]", *lines, ""]))
    conf = config.prepare([], "tests", files=[str(file)], middleware=False)
    made: list[Services] = []

    def services() -> Services:
        one = fixtures.services(tmp_path, sacks=4, divided=lambda n: service.load_incoming(conf, n))
        sacks = len(catalog.sacks(one.db))
        one.storage = service.load_storage(conf)
        one.incoming = service.load_incoming(conf, sacks)
        one.storage.upgrade()
        one.incoming.upgrade()
        one.reader = type(one.reader)(one.db, one.storage, one.damaged, 1 << 20)
        made.append(one)
        return one

    yield services
    for one in made:
        for driver in (one.storage, one.incoming):
            if hasattr(driver, "disconnect"):
                driver.disconnect()
        one.db.close()


def test_nothing_is_lost_when_the_number_changes(make: Callable[[], Services]) -> None:
    services, late = make(), make()
    policy = fixtures.policy(services, methods=["count", "sum"])
    metrics = [fixtures.metric(services, number, policy) for number in range(20)]

    def send(sender: Services, minute: int) -> None:
        fixtures.send(sender, {metric: [(60 * minute, 1.0)] for metric in metrics})

    send(services, 0)
    with pytest.raises(errors.Misconfigured, match="wait to be processed"):
        division.change(services, 7)
    fixtures.work(services)
    division.change(services, 7)
    send(late, 1)  # it does not know yet
    send(services, 2)
    assert late.incoming.backlog().points == services.incoming.backlog().points == 20
    division.change(make(), 7)  # as somebody would who is not sure that it went through
    assert late.incoming.backlog().points == 0
    fixtures.work(services)
    division.change(services, 3)
    send(services, 3)
    fixtures.work(services)
    for metric in metrics:
        for method in ("sum", "count"):
            assert fixtures.answer(services, metric, method) == {60 * m: 1.0 for m in range(4)}


STEPS = ("incoming upgrade", "change_sacks", "move_stragglers", "incoming discard")


@pytest.mark.parametrize("step", STEPS)
def test_change_that_was_cut_short_is_completed_by_the_next(
    make: Callable[[], Services], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    services, late = make(), make()
    policy = fixtures.policy(services, methods=["count", "sum"])
    metrics = [fixtures.metric(services, number, policy) for number in range(20)]

    class Killed(Exception):
        pass

    def killed(*_: object) -> None:
        raise Killed

    def send_late() -> None:
        fixtures.send(late, {metric: [(60, 1.0)] for metric in metrics})

    changed = STEPS.index(step) >= STEPS.index("move_stragglers")
    with monkeypatch.context() as patch:
        if step.startswith("incoming"):
            patch.setattr(type(services.incoming), step.partition(" ")[2], killed)
        else:
            patch.setattr(catalog if step == "change_sacks" else division, step, killed)
        if step == "incoming discard":
            # something arrives between the look at the backlog and the change
            backlog = services.incoming.backlog()
            patch.setattr(services.incoming, "backlog", lambda: backlog)
            send_late()
        with pytest.raises(Killed):
            division.change(services, 8)
    assert (len(catalog.sacks(services.db)) == 8) == changed
    again = make()
    if step != "incoming discard":
        send_late()
    if not changed:
        fixtures.work(late)
    division.change(again, 8)
    fixtures.work(again)
    for metric in metrics:
        for method in ("sum", "count"):
            assert fixtures.answer(again, metric, method) == {60: 1.0}
    assert late.incoming.backlog().points == 0
