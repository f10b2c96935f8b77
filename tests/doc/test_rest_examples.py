"""What the manual says about the REST API holds: examples, tables, the list of addresses."""

from __future__ import annotations

import json
import pathlib
import re
from typing import TYPE_CHECKING, Any

import pytest

from gnocchi.rest import app
from gnocchi.rest.errors import Refused
from gnocchi.rest.policies import DEFAULTS, Policies
from gnocchi.rest.routing import METHODS, Api, Branch, Node
from gnocchi.series.operations import CELLWISE
from tests.doc import examples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.rest.conftest import Deployment

REST = pathlib.Path(__file__).parents[2] / "doc" / "rest"
PAGES = sorted(REST.glob("*.rst"))
METRIC = "5267a9d6-5e93-44f1-85a0-f26effb03222"

#: Not part of the tree of addresses, but of what stands in front of it.
OUTSIDE = {("GET", "/healthcheck")}


def rows(page: str) -> list[list[str]]:
    """Return the cells of all rows of the list tables of a page."""
    found: list[list[str]] = []
    for line in (REST / page).read_text(encoding="utf-8").splitlines():
        if line.startswith("   * - "):
            found.append([line.removeprefix("   * - ").strip()])
        elif line.startswith("     -") and found:
            found[-1].append(line.strip().removeprefix("-").strip())
    return found


# ------------------------------------------------------------------ examples


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page_are_answered_as_it_shows(
    page: pathlib.Path, deployment: Deployment
) -> None:
    session = examples.Session(deployment.services, deployment.client)
    for example in examples.read(page):
        session.play(example)


def test_a_wrong_example_is_noticed(deployment: Deployment, tmp_path: pathlib.Path) -> None:
    page = tmp_path / "page.rst"
    text = (REST / "index.rst").read_text(encoding="utf-8")
    assert text.count(", 21.0]") == 2
    page.write_text(text.replace(", 21.0]", ", 22.0]"), encoding="utf-8")
    session = examples.Session(deployment.services, deployment.client)
    *before, wrong = examples.read(page)
    for example in before:
        session.play(example)
    with pytest.raises(AssertionError, match=r"22\.0 in the manual, 21\.0 in fact"):
        session.play(wrong)


@pytest.mark.parametrize(
    ("documented", "actual"),
    [
        ({"a": 1}, {"a": 1.0}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1, "…": "…"}, {"a": 1}),
        ({"a": 1, "…": "…"}, {"b": 1, "c": 2}),
        ([1, "…"], [1]),
        ([1, 2], [2, 1]),
        ([METRIC, METRIC], [METRIC, METRIC.replace("5267", "5268")]),
        ([METRIC, METRIC.replace("5267", "5268")], [METRIC, METRIC]),
        (METRIC, "5267a9d6-5e93-54f1-85a0-f26effb03222"),
        ("2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"),
        (
            ["2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"],
            ["2200-01-02T00:00:00+00:00", "2200-01-01T00:00:00+00:00"],
        ),
    ],
)
def test_documents_that_differ_are_told_apart(documented: Any, actual: Any) -> None:
    assert examples.Names().compare(documented, actual) is not None


@pytest.mark.parametrize(
    ("documented", "actual"),
    [
        ({"a": [1, "…"], "…": "…"}, {"a": [1, 2], "b": 2}),
        ([float("nan")], [float("nan")]),
        ({"aggregation_methods": ["max", "…"]}, {"aggregation_methods": ["min", "max"]}),
        ([METRIC, METRIC], [METRIC.replace("5267", "5268")] * 2),
        (
            ["2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"],
            ["2200-01-01T00:00:00+00:00", "2200-01-02T00:00:00+00:00"],
        ),
    ],
)
def test_documents_that_say_the_same_are_equal(documented: Any, actual: Any) -> None:
    assert examples.Names().compare(documented, actual) is None


# ------------------------------------------------------------------ worked tables

_WORKED = re.compile(r"``(\(.+\)|(?:fill|needed_overlap)=\w+)`` +((?:\S+ *){4})")
_TIMES = [f"2026-01-01T12:0{minute}:00+00:00" for minute in range(4)]


def worked() -> Iterator[tuple[str, list[str]]]:
    """The rows of the tables of operations and of ways to fill gaps."""
    for line in (REST / "aggregates.rst").read_text(encoding="utf-8").splitlines():
        if row := _WORKED.fullmatch(line):
            yield row[1], row[2].split()


def points(client: Any, operations: str, parameters: str) -> dict[str, float]:
    """Evaluate operations on the router of the page; the points of the one series by time."""
    body = {
        "operations": operations,
        "resource_type": "router",
        "search": "original_resource_id = r1",
    }
    response = client.post_json(
        f"/v1/aggregates?granularity=60&{parameters}",
        body,
        headers={"Authorization": "Basic YWRtaW46"},
    )
    value = json.loads(response.body)["measures"]
    while isinstance(value, dict):
        (value,) = value.values()
    return {timestamp: point for timestamp, _, point in value}


def test_the_tables_of_operations_show_what_is_computed(deployment: Deployment) -> None:
    session = examples.Session(deployment.services, deployment.client)
    for example in examples.read(REST / "aggregates.rst"):
        session.send(example)
        if example.path == "/v1/batch/resources/metrics/measures":
            break
    listed = list(worked())
    assert len(listed) > 20
    for what, cells in listed:
        if what.startswith("("):
            actual = points(deployment.client, what, "")
        else:
            mean = "(aggregate mean (metric (in mean) (out mean)))"
            actual = points(deployment.client, mean, what)
        shown = [f"{actual[time]:.6g}" if time in actual else "–" for time in _TIMES]
        assert (what, shown) == (what, cells)
        assert set(actual) <= set(_TIMES)


@pytest.mark.parametrize("name", sorted(CELLWISE))
def test_every_operation_is_described(name: str) -> None:
    text = (REST / "aggregates.rst").read_text(encoding="utf-8")
    assert re.search(rf"``\(?{re.escape(name)}(``| \w)", text)


# ------------------------------------------------------------------ tables


def test_all_policy_rules_are_listed_with_their_defaults() -> None:
    listed = [row for row in rows("authentication.rst") if row[0] != "rule"]
    assert listed == [
        [f"``{name}``", f"``{check}``" if check else "everybody", what]
        for name, check, what in DEFAULTS
    ]


def test_the_list_of_addresses_names_rules_that_exist() -> None:
    names = {name for name, _, _ in DEFAULTS}
    for method, address, _, rule in rows("index.rst")[1:]:
        for name in re.findall("``(.+?)``", rule):
            assert name in names, (method, address)


def listed_addresses() -> list[tuple[str, str]]:
    """Method and address of everything that the index lists."""
    return [(row[0].strip("`"), row[1].strip("`")) for row in rows("index.rst")[1:]]


class Router:
    """The tree of addresses."""

    def __init__(self, deployment: Deployment) -> None:
        services = deployment.services
        self.root = app.tree(Api(services, Policies(services.conf)))

    def handler(self, method: str, path: str) -> tuple[type[Node], str]:
        """Return what serves a path: the class of the node and its method."""
        node: Node | None = self.root
        for segment in path.split("/"):
            if segment:
                node = node.child(segment) if node is not None else None
        assert node is not None, f"there is no {path}"
        try:
            node.handler(method)
        except Refused:
            pytest.fail(f"there is no {method} {path}")
        return type(node), method

    def fixed(self) -> Iterator[tuple[str, str]]:
        """All addresses that have no names in them."""
        waiting = [("", self.root)]
        while waiting:
            path, node = waiting.pop()
            yield from ((method, path or "/") for method in METHODS if serves(type(node), method))
            if isinstance(node, Branch):
                waiting += [(f"{path}/{name}", child) for name, child in node._children.items()]


def serves(node: type[Node], method: str) -> bool:
    """Tell whether nodes of a class have a handler for a method."""
    return bool(getattr(getattr(node, method.lower(), None), "exposed", False))


def handlers() -> set[tuple[type[Node], str]]:
    """All handlers that nodes of the API have."""
    found, waiting = set(), [Node]
    while waiting:
        node = waiting.pop()
        below = node.__subclasses__()
        waiting += below
        if not below and node.__module__.startswith("gnocchi."):
            found |= {(node, method) for method in METHODS if serves(node, method)}
    return found


def test_every_address_of_the_program_is_listed(deployment: Deployment) -> None:
    router = Router(deployment)
    listed = [address for address in listed_addresses() if address not in OUTSIDE]
    assert len(listed) == len(set(listed))
    assert handlers() <= {router.handler(method, path) for method, path in listed}
    assert set(router.fixed()) <= set(listed)


def test_every_listed_address_has_an_example(deployment: Deployment) -> None:
    router = Router(deployment)
    shown = set()
    for example in (example for page in PAGES for example in examples.read(page)):
        if (example.method, example.path) not in OUTSIDE:
            shown.add(router.handler(example.method, example.path))
    for method, path in listed_addresses():
        if (method, path) not in OUTSIDE:
            assert router.handler(method, path) in shown, f"{method} {path} has no example"
