"""Small named cases, each figure beside its target and, where there is one, a reference.

``python -m benchmarks.targets`` runs all; names choose some; ``--quick`` makes them short. Every
case starts the installed commands anew, on a free port with a temporary directory. CPU seconds
are those of all processes of a command.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from benchmarks import cases_processing, cases_requests, figures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.figures import Figure

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scale:
    """How much the cases do.

    points: waiting points of the case ``backlog``. limit_s: how long they may take to be processed.
    """

    quick: bool
    points: int
    limit_s: float

    def choose(self, full: T, quick: T) -> T:
        """Return one of two sizes."""
        return quick if self.quick else full


CASES: dict[str, Callable[[Scale], list[Figure]]] = {
    "post": cases_requests.post,
    "batch": cases_requests.batch,
    "get": cases_requests.get,
    "long_get": cases_requests.long_get,
    "steady": cases_processing.steady,
    "bulk": cases_processing.bulk,
    "memory": cases_processing.memory,
    "idle": cases_processing.idle,
    "size": cases_processing.size,
    "backlog": cases_processing.backlog,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run cases; return 1 if a target was missed and that matters."""
    cases = "\n".join(f"  {name:10} {(case.__doc__ or '').strip()}" for name, case in CASES.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.targets",
        description=__doc__,
        epilog=f"cases:\n{cases}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="name", help="cases to run; all by default")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer repetitions")
    parser.add_argument("--points", type=int, help="points of the case backlog (10 million)")
    parser.add_argument("--limit", type=float, default=900, help="seconds the backlog may take")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--save", type=pathlib.Path, help="keep the figures in this file")
    parser.add_argument("--against", type=pathlib.Path, help="compare with figures kept earlier")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(CASES))
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)}")

    points = options.points or (1_000_000 if options.quick else 10_000_000)
    scale = Scale(options.quick, points, options.limit)
    before = figures.load(options.against) if options.against else {}
    found: list[Figure] = []
    for name in options.names or CASES:
        began = time.monotonic()
        for figure in CASES[name](scale):
            print(figures.line(figure, before.get(figure.name)), flush=True)
            found.append(figure)
        print(f"{name} took {time.monotonic() - began:.0f} s\n", flush=True)
    if options.save:
        figures.save(options.save, found)
    return 1 if options.strict and any(figure.missed for figure in found) else 0


if __name__ == "__main__":
    sys.exit(main())
