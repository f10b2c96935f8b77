"""Imports go down only: the order of the parts, kept by reading the source."""

from __future__ import annotations

import ast
import pathlib
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = pathlib.Path(__file__).parents[2] / "gnocchi"

# From the top down. A module may import from its own layer and from those below. The longest
# prefix of a module's name that is listed here decides.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("cli", "standalone"),
    ("api_server", "metricd", "upgrade", "wsgi", "rest.wsgi"),
    ("startup", "logs"),
    ("service", "coordination", "coordination_url"),
    ("rest", "drivers"),
    ("engine", "ingest"),
    ("indexer", "storage", "incoming"),
    ("segments",),
    ("series",),
    ("config",),
    ("options",),
    ("archive_policy", "model", "resource_type", "search"),
    ("threads",),
    ("times", "errors", "forks", ""),
)

# Parts that must not know each other although they share a layer.
STRANGERS = (("rest", "drivers"),)

MODULES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

# Modules that the distribution names as drivers.
DRIVERS = set(re.findall(r"= gnocchi\.(drivers\.\w+):", (PACKAGE.parent / "setup.cfg").read_text()))


def part_of(module: str) -> str:
    """The listed prefix of a module's name; a package's ``__init__`` has the package's."""
    name = module.removesuffix("__init__").rstrip(".")
    while not any(name in layer for layer in LAYERS):
        name, dot, _ = name.rpartition(".")
        if not dot:
            name = name if any(name in layer for layer in LAYERS) else "?"
            break
    return name


def depth(part: str) -> int:
    """How far down a part is."""
    return next(number for number, layer in enumerate(LAYERS) if part in layer)


def imports(path: pathlib.Path) -> Iterator[tuple[str, int]]:
    """Modules of this package that a module imports at run time, with line numbers.

    Imports for annotations only do not count: they are none when the program runs.
    """
    tree = ast.parse(path.read_text(), str(path))
    for node in _at_run_time(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("gnocchi."):
                    yield alias.name.removeprefix("gnocchi."), node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "gnocchi":
                for alias in node.names:
                    if alias.name != "__version__":
                        yield alias.name, node.lineno
            elif node.module.startswith("gnocchi."):
                below = node.module.removeprefix("gnocchi.")
                for alias in node.names:
                    full = f"{below}.{alias.name}"
                    yield (
                        full if full in MODULES or f"{full}.__init__" in MODULES else below,
                        (node.lineno),
                    )


def _at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other
                yield from _at_run_time(other)
            continue
        yield child
        yield from _at_run_time(child)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_module_belongs_to_a_layer(module: str) -> None:
    assert part_of(module) != "?"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_down_only(module: str) -> None:
    part = part_of(module)
    upward = [
        f"line {line}: {name}"
        for name, line in imports(MODULES[module])
        if depth(part_of(name)) < depth(part) and part_of(name) != part
    ]
    assert upward == []


@pytest.mark.parametrize("module", sorted(MODULES))
def test_strangers_do_not_know_each_other(module: str) -> None:
    part = part_of(module)
    named = {part_of(name) for name, _ in imports(MODULES[module])}
    for one, other in STRANGERS:
        assert not (part == one and other in named)
        assert not (part == other and one in named)


@pytest.mark.parametrize("module", sorted(DRIVERS))
def test_drivers_do_not_know_each_other(module: str) -> None:
    """What several drivers are made of may be shared; it is no driver itself."""
    named = {name for name, _ in imports(MODULES[module])}
    assert named & (DRIVERS - {module}) == set()


@pytest.mark.parametrize("module", sorted(m for m in MODULES if m.startswith("engine")))
def test_engine_sees_no_driver_and_no_sql(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    named = {
        (alias.name if isinstance(node, ast.Import) else node.module or "")
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not [name for name in named if name.startswith(("sqlalchemy", "gnocchi.drivers"))]


@pytest.mark.parametrize("module", sorted(m for m in MODULES if m.startswith("series")))
def test_series_opens_nothing_logs_nothing_and_reads_no_clock(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    named = {
        alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert not named & {"io", "logging", "os", "pathlib", "socket", "time"}
