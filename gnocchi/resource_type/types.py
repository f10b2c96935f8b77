"""Resource types, and what a patch makes of one and of its resources."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gnocchi.errors import Invalid, Misconfigured
from gnocchi.resource_type.attributes import (
    Definition,
    InvalidInput,
    check_name,
    kinds,
    mapping,
    storable,
)
from gnocchi.resource_type.fields import BASE_FIELDS, HISTORY_FIELDS
from gnocchi.resource_type.operations import read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from gnocchi.resource_type.attributes import Attribute

ACTIVE = "active"
MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class ResourceType:
    """A kind of resources and the attributes they have besides those of every resource."""

    name: str
    attributes: Mapping[str, Attribute] = field(default_factory=dict, hash=False)
    state: str = ACTIVE

    @classmethod
    def from_json(cls, document: object) -> ResourceType:
        """Build a new type from the body that describes it.

        Raises:
            InvalidInput: the body does not fit.
            Invalid: an attribute's name may not be used, or its options contradict each other.
        """
        members = mapping(document, ())
        name, definitions = "", {}
        for member, value in members.items():
            if member == "name":
                name = _type_name(value)
            elif member == "attributes":
                definitions = _definitions(value)
            else:
                raise InvalidInput("extra keys not allowed", (member,))
        if not name:
            raise InvalidInput("required key not provided", ("name",))
        attributes = {}
        for key, definition in definitions.items():
            check_name(key)
            attributes[key] = definition.attribute(key)
            attributes[key].check()
        return cls(name, attributes)

    @classmethod
    def from_stored(
        cls, name: str, definitions: Mapping[str, Mapping[str, Any]], state: str = ACTIVE
    ) -> ResourceType:
        """Build a type from definitions that `to_json` made, perhaps of an earlier version.

        Raises:
            Misconfigured: a kind of attribute is not installed any more.
        """
        attributes = {}
        for key, definition in definitions.items():
            kind = kinds().get(definition["type"])
            if kind is None:
                raise Misconfigured(
                    f"Resource type {name} has attributes of the kind {definition['type']!r}, "
                    "which is not installed"
                )
            known = {"required", *kind.OPTIONS}
            attributes[key] = kind(key, **{k: v for k, v in definition.items() if k in known})
        return cls(name, attributes, state)

    def to_json(self) -> dict[str, Any]:
        """Return the type as the API shows it."""
        return {"name": self.name, "state": self.state, "attributes": self.definitions()}

    def definitions(self) -> dict[str, dict[str, Any]]:
        """Return the definitions of all attributes, with every option spelled out."""
        return {name: attribute.to_json() for name, attribute in self.attributes.items()}

    def patched(self, operations: object) -> Patch:
        """Return what a JSON Patch of ``/attributes/…`` makes of this type and its resources.

        The operations are applied in order, then the result is checked and compared with what
        was: adding and removing the same attribute is no change at all.

        Raises:
            InvalidInput: the operations are no such patch.
            Invalid: they cannot be applied, or what they lead to may not be.
        """
        document: dict[str, Any] = {"attributes": self.definitions()}
        for operation in list(read(operations)):
            operation.apply(document)
        try:
            definitions = _definitions(document["attributes"], patch=True)
        except InvalidInput as error:
            raise Invalid(f"Invalid input: {error}") from error

        added: dict[str, Any] = {}
        filled: dict[str, Any] = {}
        attributes: dict[str, Attribute] = {}
        for name, definition in definitions.items():
            before = self.attributes.get(name)
            after = attributes[name] = definition.attribute(name)
            if before == after and definition.fill is None:
                attributes[name] = before
                continue
            if before is None:
                check_name(name)
            elif before.TYPE != after.TYPE:
                raise Invalid(
                    f"Type update is not available yet. Changing {before.TYPE} to {after.TYPE} "
                    f"for attribute {name} of resource {self.name}"
                )
            after.check()
            fill = _fill(after, definition.fill, may_miss=before is not None and before.required)
            if before is None:
                added[name] = fill
            elif fill is not None:
                filled[name] = fill
        removed = frozenset(self.attributes) - attributes.keys()
        if added and self.name == GENERIC.name:
            raise Invalid(f"Resource type {self.name} has no attributes of its own")
        return Patch(ResourceType(self.name, attributes, self.state), added, removed, filled)

    def search_value(
        self,
        name: str,
        value: str | float | bool | None,
        operator: str = "=",
        *,
        history: bool = True,
    ) -> str | int | float | bool | UUID | None:
        """Return what a filter that says ``value`` compares the stored field ``name`` with.

        Attributes are converted to their stored form, ids to UUIDs, times and ``lifespan`` to
        microseconds. Null stays null, except that nothing is like it and no id can be null.

        Args:
            operator: one of `gnocchi.search.COMPARISONS`, or ``in`` for an element of a list.
            history: whether the filter applies to past versions too; ``revision`` and
                ``revision_end`` are unknown without.

        Raises:
            Invalid: there is no such field, or the value cannot be converted.
        """
        convert: Callable[[Any, str], Any]
        if name in self.attributes:
            convert = self.attributes[name].comparable
        elif name in BASE_FIELDS and (history or name not in HISTORY_FIELDS):
            convert = BASE_FIELDS[name]
        else:
            raise Invalid(f"Resource type {self.name} has no {name} attribute")
        if value is None and operator != "like" and name != "id":
            return None
        try:
            if value is None:
                raise Invalid("null")
            converted: str | int | float | bool | UUID | None = convert(value, operator)
        except Invalid as error:
            raise Invalid(f"Invalid value: `{value}' for field `{name}'") from error
        return converted


def _definitions(value: object, *, patch: bool = False) -> dict[str, Definition]:
    path = ("attributes",)
    return {
        name: Definition.of(definition, (*path, name), patch=patch)
        for name, definition in mapping(value, path).items()
    }


def _fill(attribute: Attribute, value: Any, *, may_miss: bool) -> Any:
    """Return the stored form of what resources without the attribute get, ``None`` for nothing."""
    try:
        if value is not None:
            return attribute.validate(value)
        if attribute.required and not may_miss:
            raise Invalid("must not be empty if required=True")
    except Invalid as error:
        raise Invalid(
            f"Invalid input: Option 'fill' of resource attribute {attribute.name} is invalid: "
            f"{error}"
        ) from error
    return None


@dataclass(frozen=True, slots=True)
class Patch:
    """What a patch does to a type and to all its resources, past versions included.

    ``added``: new attributes and the stored value that resources get, ``None`` for null.
    ``removed``: attributes whose values go. ``filled``: attributes that stay, and the stored
    value that replaces nulls.
    """

    resource_type: ResourceType
    added: dict[str, Any]
    removed: frozenset[str]
    filled: dict[str, Any]


def _type_name(value: object) -> str:
    path = ("name",)
    if not isinstance(value, str):
        raise InvalidInput.of_value("expected str", path)
    if not storable(value):
        raise InvalidInput.of_value("not a valid value", path)
    if not value:
        raise InvalidInput.of_value("length of value must be at least 1", path)
    if len(value) > MAX_NAME:
        raise InvalidInput.of_value(f"length of value must be at most {MAX_NAME}", path)
    return value


GENERIC = ResourceType("generic")
"""The type that every resource also is. It has no attributes and cannot be deleted."""
