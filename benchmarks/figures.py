"""What a case found, printed beside what it should be, and compared with another run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable

AT_LEAST, AT_MOST = "at least", "at most"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number.

    Attributes:
        name: the case and what was measured.
        target: what it should be; None where the number only explains others.
        bound: whether it should be that `AT_LEAST` or `AT_MOST`.
    """

    name: str
    value: float
    unit: str
    target: float | None = None
    bound: str = AT_MOST

    @property
    def ratio(self) -> float | None:
        """How many times better than the target; below 1 it is missed."""
        if self.target is None:
            return None
        if self.bound == AT_LEAST:
            return self.value / self.target
        return self.target / max(self.value, 1e-12)

    @property
    def missed(self) -> bool:
        """Whether there is a target and it was not reached."""
        return self.ratio is not None and self.ratio < 1


def line(figure: Figure, before: float | None = None) -> str:
    """Return one line of the table; ``before`` is the same figure of another run."""
    text = f"{figure.name:44}{_number(figure.value):>12} {figure.unit:22}"
    if figure.ratio is not None and figure.target is not None:
        verdict = "MISSED" if figure.missed else "ok"
        wanted = f"{figure.bound} {_number(figure.target)}"
        text += f"{wanted:20} ratio {figure.ratio:6.2f}  {verdict:8}"
    if before:
        text += f"  {figure.value / before:.2f} times the earlier {_number(before)}"
    return text.rstrip()


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.3g}"


def save(path: pathlib.Path, figures: Iterable[Figure]) -> None:
    """Keep the numbers of a run, to compare a later one with."""
    numbers = {figure.name: figure.value for figure in figures}
    path.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


def load(path: pathlib.Path) -> dict[str, float]:
    """Return the numbers of an earlier run by name."""
    numbers: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return numbers
