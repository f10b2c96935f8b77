"""Attributes: the kinds there are, their definitions, and the values they accept.

Invariants: see the package. Which attributes a type has, and what a patch does to them, is not
the business of this module.
"""

from __future__ import annotations

import abc
import functools
import importlib.metadata
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from gnocchi import times
from gnocchi.errors import Invalid, Misconfigured
from gnocchi.model import parse_uuid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ENTRY_POINTS = "gnocchi.indexer.sqlalchemy.resource_type_attribute"
MAX_ATTRIBUTE_NAME = 63
MAX_STRING = 256

RESERVED_NAMES = frozenset(
    {
        "id",
        "type",
        "metrics",
        "revision",
        "revision_start",
        "revision_end",
        "started_at",
        "ended_at",
        "user_id",
        "project_id",
        "created_by_user_id",
        "created_by_project_id",
        "get_metric",
        "creator",
        "original_resource_id",
    }
)
"""Names that fields of every resource have, and so no attribute."""

Path = tuple[str | int, ...]

_FIRST_CHARACTER = re.compile(r"[A-Za-z0-9]")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_MAX_NUMERAL = 128


def storable(text: str) -> bool:
    """Tell whether a text can be stored at all: no NUL, no half of a surrogate pair."""
    return _UNSTORABLE.search(text) is None


class InvalidInput(Invalid):
    """A document does not fit, and where: its text is what `Invalid input` reports as reason.

    ``reason`` is the message without the place; ``path`` leads to the element, names of members
    and indexes of lists as they are.
    """

    def __init__(self, reason: str, path: Path = ()) -> None:
        place = f" @ data[{']['.join(map(repr, path))}]" if path else ""
        super().__init__(f"{reason}{place}")
        self.reason = reason
        self.path = path

    @classmethod
    def of_value(cls, message: str, path: Path) -> Self:
        """Build the error about a value, as opposed to one about the name of a member."""
        member = bool(path) and isinstance(path[-1], str)
        return cls(f"{message} for dictionary value" if member else message, path)

    def inside(self, *path: str | int) -> Self:
        """Return the same error of a larger document that has this one at ``path``."""
        if self.path:
            return type(self)(self.reason, path + self.path)
        return self.of_value(self.reason, path)


# ------------------------------------------------------------------ kinds


@dataclass(frozen=True, slots=True)
class Attribute(abc.ABC):
    """The definition of one attribute; a subclass is a kind of them.

    The fields a subclass adds are the kind's options: `OPTIONS` has for each a function that
    returns the option's value from what was sent, or raises `Invalid` with a message without a
    place. Their defaults are those of the fields.
    """

    TYPE: ClassVar[str]
    #: What values are stored as: ``str``, ``int``, ``float`` (any number) or ``bool``.
    STORED: ClassVar[type]
    OPTIONS: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
    #: The options that are the least and the greatest of something, in pairs.
    LIMITS: ClassVar[tuple[tuple[str, str], ...]] = ()

    name: str
    required: bool = True

    @staticmethod
    def from_json(name: str, document: object) -> Attribute:
        """Build an attribute from its definition.

        Raises:
            InvalidInput: the definition does not fit; the path starts inside it.
            Invalid: the name may not be used, or the options contradict each other.
        """
        attribute = Definition.of(document, ()).attribute(name)
        check_name(name)
        attribute.check()
        return attribute

    def to_json(self) -> dict[str, Any]:
        """Return the definition with every option spelled out."""
        options = {option: getattr(self, option) for option in self.OPTIONS}
        return {"type": self.TYPE, "required": self.required, **options}

    def check(self) -> None:
        """Raise `Invalid` when the options contradict each other."""
        for least, greatest in self.LIMITS:
            minimum, maximum = getattr(self, least), getattr(self, greatest)
            if minimum is not None and maximum is not None and minimum > maximum:
                raise Invalid(
                    f"Invalid input: Resource attribute value min (or min_length) {minimum} must "
                    f"be less  than or equal to max (or max_length) {maximum}!"
                )

    @abc.abstractmethod
    def validate(self, value: object) -> Any:
        """Return the stored form of a value, with a message without a place in its `Invalid`."""

    def shown(self, stored: Any) -> Any:
        """Return what the API shows for a stored value; null stays null."""
        return stored

    @abc.abstractmethod
    def comparable(self, value: str | float | bool, operator: str) -> Any:
        """Return what a filter compares stored values with; `Invalid` when it never could."""


def _length(minimum: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
            raise Invalid("expected int")
        if value < minimum:
            raise Invalid(f"value must be at least {minimum}")
        if value > MAX_STRING:
            raise Invalid(f"value must be at most {MAX_STRING}")
        return int(value)

    return check


def _limit(value: Any) -> int | float | None:
    return None if value is None else _real(value)


def _real(value: object) -> int | float:
    """Return a finite number that every database can keep, whole ones of 64 bits exactly."""
    if isinstance(value, int) and not isinstance(value, bool):
        if -(2**63) <= value < 2**63:
            return value
        try:
            return float(value)
        except OverflowError:
            raise Invalid("expected Real") from None
    # NaN and the infinities cannot be said in JSON, and so not be stored.
    if isinstance(value, float) and abs(value) < float("inf"):
        return value
    raise Invalid("expected Real")


def not_like(operator: str) -> None:
    """Raise `Invalid` for the operator that only texts have."""
    if operator == "like":
        raise Invalid("only texts have patterns")


@dataclass(frozen=True, slots=True)
class String(Attribute):
    """A text; its lengths are in characters."""

    TYPE: ClassVar[str] = "string"
    STORED: ClassVar[type] = str
    OPTIONS: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        "min_length": _length(0),
        "max_length": _length(1),
    }
    LIMITS: ClassVar[tuple[tuple[str, str], ...]] = (("min_length", "max_length"),)

    min_length: int = 0
    max_length: int = MAX_STRING

    def validate(self, value: object) -> str:
        if not isinstance(value, str):
            raise Invalid("expected str")
        if not storable(value):
            raise Invalid("not a valid value")
        if len(value) < self.min_length:
            raise Invalid(f"length of value must be at least {self.min_length}")
        if len(value) > self.max_length:
            raise Invalid(f"length of value must be at most {self.max_length}")
        return value

    def comparable(self, value: str | float | bool, operator: str) -> str:
        text = value if isinstance(value, str) else json.dumps(value)
        if not storable(text):
            raise Invalid("not a valid value")
        return text


@dataclass(frozen=True, slots=True)
class Uuid(Attribute):
    """A UUID."""

    TYPE: ClassVar[str] = "uuid"
    STORED: ClassVar[type] = str

    def validate(self, value: object) -> str:
        if not isinstance(value, str):
            raise Invalid("badly formed hexadecimal UUID string")
        return str(parse_uuid(value))

    def comparable(self, value: str | float | bool, operator: str) -> str:
        not_like(operator)
        return self.validate(value)


@dataclass(frozen=True, slots=True)
class Number(Attribute):
    """An int or a float."""

    TYPE: ClassVar[str] = "number"
    STORED: ClassVar[type] = float
    OPTIONS: ClassVar[Mapping[str, Callable[[Any], Any]]] = {"min": _limit, "max": _limit}
    LIMITS: ClassVar[tuple[tuple[str, str], ...]] = (("min", "max"),)

    min: int | float | None = None
    max: int | float | None = None

    def validate(self, value: object) -> int | float:
        number = _real(value)
        if self.min is not None and number < self.min:
            raise Invalid(f"value must be at least {self.min}")
        if self.max is not None and number > self.max:
            raise Invalid(f"value must be at most {self.max}")
        return number

    def comparable(self, value: str | float | bool, operator: str) -> int | float:
        not_like(operator)
        if not isinstance(value, str):
            return _real(value)
        text = value.strip() if len(value) <= _MAX_NUMERAL else ""
        if _INTEGER.fullmatch(text):
            return _real(int(text))
        if _NUMBER.fullmatch(text):
            return _real(float(text))
        raise Invalid("expected Real")


@dataclass(frozen=True, slots=True)
class Bool(Attribute):
    """True or false."""

    TYPE: ClassVar[str] = "bool"
    STORED: ClassVar[type] = bool

    def validate(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise Invalid("expected bool")
        return value

    def comparable(self, value: str | float | bool, operator: str) -> bool:
        not_like(operator)
        spelling = str(value).lower()
        if spelling not in _BOOLEANS:
            raise Invalid("expected bool")
        return _BOOLEANS[spelling]


_BOOLEANS = {
    **dict.fromkeys(("1", "on", "t", "true", "y", "yes"), True),
    **dict.fromkeys(("0", "off", "f", "false", "n", "no"), False),
}


@dataclass(frozen=True, slots=True)
class Datetime(Attribute):
    """An instant, cut to microseconds."""

    TYPE: ClassVar[str] = "datetime"
    STORED: ClassVar[type] = int

    def validate(self, value: object) -> int:
        return times.parse_timestamp(value) // 1000

    def shown(self, stored: Any) -> str | None:
        return None if stored is None else times.format_timestamp(stored * 1000)

    def comparable(self, value: str | float | bool, operator: str) -> int:
        not_like(operator)
        return microseconds(times.parse_timestamp(value), operator)


def microseconds(ns: int, operator: str) -> int:
    """Cut to microseconds so that the comparison of whole ones says what that of ``ns`` would.

    Equality ignores what is below a microsecond.
    """
    return -(-ns // 1000) if operator in (">=", "<") else ns // 1000


KINDS: dict[str, type[Attribute]] = {
    kind.TYPE: kind for kind in (String, Uuid, Number, Bool, Datetime)
}
"""The kinds that are always there."""


@functools.cache
def kinds() -> Mapping[str, type[Attribute]]:
    """Return `KINDS` and those that other packages register, by the name of the type.

    Raises:
        Misconfigured: a registered kind cannot be loaded.
    """
    found = dict(KINDS)
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if entry.name not in found:
            try:
                kind = entry.load()
            except (ImportError, AttributeError) as error:
                raise Misconfigured(
                    f"The kind of attribute {entry.name!r} cannot be loaded: {error}"
                ) from error
            if not (isinstance(kind, type) and issubclass(kind, Attribute)):
                raise Misconfigured(f"{entry.value} is no kind of attribute")
            found[entry.name] = kind
    return found


# ------------------------------------------------------------------ definitions


def check_name(name: str) -> None:
    """Raise `Invalid` unless an attribute may be called ``name``."""
    if (
        not _FIRST_CHARACTER.match(name)
        or len(name) > MAX_ATTRIBUTE_NAME
        or name in RESERVED_NAMES
        or not storable(name)
    ):
        raise Invalid(f"Invalid input: Resource attribute name {name} is invalid")


@dataclass(frozen=True, slots=True)
class Definition:
    """A definition as it was sent: of the right shape, its contents not yet compared."""

    kind: type[Attribute]
    values: dict[str, Any]
    fill: Any = None

    @classmethod
    def of(cls, document: object, path: Path, *, patch: bool = False) -> Definition:
        """Read a definition; those in a patch may say what to fill resources with."""
        members = mapping(document, path)
        if "type" not in members:
            raise InvalidInput("required key not provided", (*path, "type"))
        kind = kinds().get(members["type"]) if isinstance(members["type"], str) else None
        if kind is None:
            raise InvalidInput.of_value("not a valid value", (*path, "type"))
        values, fill = {}, None
        for member, value in members.items():
            place = (*path, member)
            if member == "options" and patch:
                options = mapping(value, place)
                for option in options:
                    if option != "fill":
                        raise InvalidInput("extra keys not allowed", (*place, option))
                fill = options.get("fill")
            elif member == "required":
                if not isinstance(value, bool):
                    raise InvalidInput.of_value("expected bool", place)
                values[member] = value
            elif member in kind.OPTIONS:
                try:
                    values[member] = kind.OPTIONS[member](value)
                except Invalid as error:
                    raise InvalidInput.of_value(str(error), place) from error
            elif member != "type":
                raise InvalidInput("extra keys not allowed", place)
        return cls(kind, values, fill)

    def attribute(self, name: str) -> Attribute:
        """Return the attribute of this definition; neither name nor options are checked."""
        return self.kind(name, **self.values)


def mapping(value: object, path: Path) -> dict[str, Any]:
    """Return a JSON object as it is; raises `InvalidInput` for anything else."""
    if not isinstance(value, dict):
        raise InvalidInput.of_value("expected a dictionary", path)
    return value
