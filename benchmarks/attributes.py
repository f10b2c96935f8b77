"""Attributes of resources: one JSON column, or a table of typed columns for each type?

    python -m benchmarks.attributes [--resources N] [sqlite postgresql mariadb …]

Prints median milliseconds of searching by an attribute that one resource has (its own index
included where the layout can have one), searching by a number's range without an index, inserting
a thousand resources, and updating one, for each layout:

* ``typed``: the base columns in one table, each attribute a column of another, joined by id; the
  searched attribute has an index, which an operator would have to make by hand;
* ``typed, no index``: the same without;
* ``json``: the attributes as one column; on PostgreSQL with a GIN index over all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
import uuid
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql

from tests import servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What an instance of a cloud has.
NAMES = (
    "host", "display_name", "flavor_id", "flavor_name", "image_ref", "server_group",
    "availability_zone", "created_by", "memory", "launched",
)  # fmt: skip
DOCUMENT = (
    sa.Text()
    .with_variant(postgresql.JSONB(), "postgresql")
    .with_variant(mysql.MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
)


def attributes(number: int) -> dict[str, Any]:
    """Attributes of one resource; ``display_name`` is its own, ``host`` is shared by fifty."""
    return {
        "host": f"compute-{number % 1000}",
        "display_name": f"instance-{number}",
        "flavor_id": str(uuid.UUID(int=number % 20)),
        "flavor_name": f"m1.size{number % 20}",
        "image_ref": str(uuid.UUID(int=number % 100)),
        "server_group": f"group-{number % 500}",
        "availability_zone": f"zone-{number % 3}",
        "created_by": "somebody",
        "memory": number % 4096,
        "launched": 1_700_000_000_000_000 + number,
    }


class Layout:
    """One way to store them, on one database."""

    def __init__(self, engine: sa.Engine, kind: str) -> None:
        self.engine = engine
        self.kind = kind
        self.typed = kind.startswith("typed")
        metadata = sa.MetaData()
        base = [
            sa.Column("id", sa.String(32), primary_key=True),
            sa.Column("type", sa.String(100)),
            sa.Column("project_id", sa.String(100), index=True),
            sa.Column("started_at", sa.BigInteger),
            sa.Column("revision_start", sa.BigInteger, index=True),
        ]
        if not self.typed:
            base.append(sa.Column("attributes", DOCUMENT))
        self.base = sa.Table("base", metadata, *base)
        columns = [
            sa.Column(name, sa.BigInteger if name in ("memory", "launched") else sa.String(256))
            for name in NAMES
        ]
        self.own = sa.Table(
            "own",
            metadata,
            sa.Column("id", sa.String(32), sa.ForeignKey("base.id"), primary_key=True),
            *columns,
        )
        metadata.drop_all(engine)
        metadata.create_all(engine)
        with engine.begin() as connection:
            if kind == "typed":
                connection.exec_driver_sql("CREATE INDEX own_name ON own (display_name)")
            if kind == "json" and engine.dialect.name == "postgresql":
                connection.exec_driver_sql(
                    "CREATE INDEX base_attributes ON base USING gin (attributes jsonb_path_ops)"
                )

    def document(self, values: dict[str, Any]) -> Any:
        """The stored form of a document."""
        return values if self.engine.dialect.name == "postgresql" else json.dumps(values)

    def insert(self, numbers: range) -> None:
        """Insert many resources in one transaction."""
        rows, own = [], []
        for number in numbers:
            row = {
                "id": uuid.UUID(int=number * 2**64).hex,
                "type": "instance",
                "project_id": f"project-{number % 100}",
                "started_at": number,
                "revision_start": number,
            }
            if self.typed:
                own.append({"id": row["id"], **attributes(number)})
            else:
                row["attributes"] = self.document(attributes(number))
            rows.append(row)
        with self.engine.begin() as connection:
            connection.execute(self.base.insert(), rows)
            if own:
                connection.execute(self.own.insert(), own)

    def analyze(self) -> None:
        """Let the planner know what there is."""
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for table in ("base", "own"):
                words = {"mysql": "ANALYZE TABLE", "sqlite": "ANALYZE"}
                word = words.get(self.engine.dialect.name, "VACUUM ANALYZE")
                connection.exec_driver_sql(f"{word} {table}").close()

    def select(self) -> sa.Select[Any]:
        """Everything of a resource."""
        if self.typed:
            return sa.select(self.base, self.own).join(self.own)
        return sa.select(self.base)

    def search(self, number: int) -> None:
        """Find the one resource of a name."""
        name = f"instance-{number}"
        if self.typed:
            condition = self.own.c.display_name == name
        elif self.engine.dialect.name == "postgresql":
            condition = self._jsonb.contains({"display_name": name})
        else:
            condition = self._extract("display_name") == name
        self._fetch(self.select().where(condition), 1)

    def search_range(self, number: int) -> None:
        """Find the resources with more than so much memory, about twelve in 50,000."""
        if self.typed:
            condition = self.own.c.memory > 4094
        elif self.engine.dialect.name == "postgresql":
            condition = sa.cast(self._jsonb["memory"].astext, sa.Numeric) > 4094
        elif self.engine.dialect.name == "sqlite":
            condition = self._extract("memory") > 4094
        else:
            condition = sa.cast(self._extract("memory"), mysql.DOUBLE) > 4094
        self._fetch(self.select().where(condition), None)

    @property
    def _jsonb(self) -> Any:
        return sa.type_coerce(self.base.c.attributes, postgresql.JSONB)

    def _extract(self, name: str) -> Any:
        path = f'$."{name}"'
        if self.engine.dialect.name == "sqlite":
            return sa.func.json_extract(self.base.c.attributes, path)
        return sa.func.json_value(self.base.c.attributes, path)

    def _fetch(self, query: sa.Select[Any], expected: int | None) -> None:
        with self.engine.connect() as connection:
            rows = connection.execute(query).all()
        assert len(rows) == expected if expected else rows

    def update(self, number: int) -> None:
        """Change one attribute of one resource, and its revision."""
        key = uuid.UUID(int=number * 2**64).hex
        changed = {**attributes(number), "host": "another"}
        values: dict[str, Any] = {"revision_start": number + 1}
        if not self.typed:
            values["attributes"] = self.document(changed)
        with self.engine.begin() as connection:
            connection.execute(self.base.update().where(self.base.c.id == key).values(values))
            if self.typed:
                connection.execute(
                    self.own.update().where(self.own.c.id == key).values(host="another")
                )


def median(action: Callable[[int], object], times: int, first: int, step: int) -> float:
    """Median wall milliseconds of an action."""
    walls = []
    for index in range(times):
        began = time.perf_counter()
        action(first + index * step)
        walls.append(time.perf_counter() - began)
    return 1e3 * statistics.median(walls)


@contextlib.contextmanager
def database(kind: str) -> Iterator[sa.Engine]:
    """An empty database of this kind."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as directory:
            engine = sa.create_engine(f"sqlite:///{directory}/db")
            with engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL").close()
            yield engine
            engine.dispose()
        return
    with {"postgresql": servers.postgresql, "mariadb": servers.mariadb}[kind]() as server:
        if kind == "mariadb":
            admin = sa.create_engine(server.url)
            with admin.begin() as connection:
                connection.exec_driver_sql("CREATE DATABASE bench CHARACTER SET utf8mb4")
            admin.dispose()
            server.url = server.url.rsplit("/", 1)[0] + "/bench"
        engine = sa.create_engine(server.url)
        yield engine
        engine.dispose()


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resources", type=int, default=50_000)
    parser.add_argument("kinds", nargs="*", default=["sqlite", "postgresql", "mariadb"])
    options = parser.parse_args()
    print(f"{'median ms':28}{'search':>10}{'range':>10}{'insert 1k':>12}{'update':>10}")
    for kind in options.kinds:
        with database(kind) as engine:
            for layout_kind in ("typed", "typed, no index", "json"):
                layout = Layout(engine, layout_kind)
                for start in range(0, options.resources, 5000):
                    layout.insert(range(start, min(start + 5000, options.resources)))
                layout.analyze()
                search = median(layout.search, 15, 17, 313)
                ranged = median(layout.search_range, 7, 0, 1)
                update = median(layout.update, 50, 11, 71)
                insert = median(
                    lambda n, layout=layout: layout.insert(range(n, n + 1000)),
                    5, options.resources, 1000,
                )  # fmt: skip
                print(
                    f"{kind + ' ' + layout_kind:28}{search:10.2f}{ranged:10.2f}"
                    f"{insert:12.1f}{update:10.2f}"
                )


if __name__ == "__main__":
    main()
