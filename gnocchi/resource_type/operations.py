"""The operations of a JSON Patch: ``add`` and ``remove`` below ``/attributes``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gnocchi.errors import Invalid
from gnocchi.resource_type.attributes import InvalidInput, mapping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gnocchi.resource_type.attributes import Path

_NOTHING = object()
_ESCAPE = re.compile(r"~[01]")
_UNESCAPED = {"~0": "~", "~1": "/"}


@dataclass(frozen=True, slots=True)
class Operation:
    """One step of a patch: its place below the root, and what to put there, if anything."""

    op: str
    parts: tuple[str, ...]
    value: Any

    def apply(self, document: dict[str, Any]) -> None:
        """Change ``document``, but nothing that came with an operation."""
        target = document
        *parents, last = self.parts
        for part in parents:
            child = target.get(part)
            if not isinstance(child, dict):
                raise Invalid(f"member '{part}' not found in the resource type")
            copied = dict(child)
            target[part] = copied
            target = copied
        if self.op == "remove":
            if last not in target:
                raise Invalid(f"can't remove a non-existent object '{last}'")
            del target[last]
        elif self.value is _NOTHING:
            raise Invalid("The operation does not contain a 'value' member")
        else:
            target[last] = self.value


def read(document: object) -> Iterator[Operation]:
    """Yield the operations of a patch; raises `InvalidInput` at the first that is none."""
    if not isinstance(document, list):
        raise InvalidInput.of_value("expected a list", ())
    for index, operation in enumerate(document):
        members = mapping(operation, (index,))
        parts: tuple[str, ...] = ()
        for member, value in members.items():
            place = (index, member)
            if member == "op":
                if value not in ("add", "remove"):
                    raise InvalidInput.of_value("not a valid value", place)
            elif member == "path":
                parts = _pointer(value, place)
            elif member == "value":
                if not isinstance(value, dict):
                    raise InvalidInput.of_value("expected dict", place)
            else:
                raise InvalidInput("extra keys not allowed", place)
        for member in ("op", "path"):
            if member not in members:
                raise InvalidInput("required key not provided", (index, member))
        yield Operation(members["op"], parts, members.get("value", _NOTHING))


def _pointer(value: object, place: Path) -> tuple[str, ...]:
    """Return the parts of a JSON Pointer to an attribute, or to a place inside of one."""
    if not isinstance(value, str):
        raise InvalidInput.of_value("expected str", place)
    root, *parts = value.split("/")
    if root or len(parts) < 2 or parts[0] != "attributes" or "~" in _ESCAPE.sub("", value):
        raise InvalidInput.of_value("not a valid value", place)
    return tuple(_ESCAPE.sub(lambda match: _UNESCAPED[match[0]], part) for part in parts)
