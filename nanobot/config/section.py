"""The base of every part of the configuration: what may be in a section, and how one is made of JSON.

The names are pydantic's, and this is the part of it that is needed here: to import it and compile its
validators took a third of the time of a whole `nanobot agent -m`.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from types import NoneType
from typing import Any, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

from nanobot.errors import ConfigError

_REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*)\}")
_HALF_A_PAIR = re.compile(r"[\ud800-\udfff]")  # JSON can write what no file, page or program can be given
_BOOLEANS = dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True)
_BOOLEANS |= dict.fromkeys(("0", "false", "f", "no", "n", "off"), False)
_LIMITS: dict[str, tuple[Callable[[Any, float], bool], str]] = {
    "ge": (operator.ge, "greater than or equal to"),
    "gt": (operator.gt, "greater than"),
    "le": (operator.le, "less than or equal to"),
    "min_length": (lambda text, least: len(text) >= least, "a text of a length of at least"),
}


@dataclass(frozen=True, slots=True)
class Field:
    """A key of a section. One with `repr` False is a secret: it stays out of `repr` and error texts.

    The default of a section within a section is its class. `limits` may hold ge, gt, le and min_length.
    """

    default: Any
    description: str = ""
    repr: bool = True
    limits: Mapping[str, float] | None = None
    annotation: Any = None
    alias: str = ""  # how the key is written
    numbers_as_text: bool = False


_ANY = Field(None)


def key(default: Any, meaning: str, *, secret: bool = False, **limits: float) -> Any:
    """Declares a key of a section; for `limits` see Field."""
    return Field(default, meaning, not secret, limits)


def part(section: "type[Section]", meaning: str) -> Any:
    """Declares a section within a section."""
    return Field(section, meaning)


class Section:
    """Attributes are snake_case; keys are written in camelCase and read in both spellings.

    `model_fields_set` names the attributes that were given, `model_extra` holds the values of `extra_kind`.
    """

    model_fields: ClassVar[dict[str, Field]] = {}
    numbers_as_text: ClassVar[bool] = False  # whether 12 will do where a text is expected

    def __init_subclass__(cls) -> None:
        cls.model_fields = {}
        numbers = cls.numbers_as_text
        for name, kind in get_type_hints(cls).items():
            if get_origin(kind) is not ClassVar:
                given = getattr(cls, name)
                field = given if isinstance(given, Field) else Field(given)
                field = replace(field, annotation=kind, alias=to_camel(name), numbers_as_text=numbers)
                cls.model_fields[name] = field

    def __init__(self, **values: Any) -> None:
        self.model_fields_set = set(values)
        self.model_extra: dict[str, Any] = {}
        for name, declared in self.model_fields.items():
            default = declared.default
            made = default() if isinstance(default, type) else deepcopy(default)
            setattr(self, name, values.pop(name, made))
        if values:
            raise TypeError(f"{type(self).__name__} has no {', '.join(values)}")
        self.__post_init__()

    def __post_init__(self) -> None:
        """For values that follow from others."""

    @classmethod
    def extra_kind(cls, name: str) -> Any:
        """The type of a key that no field describes; None: there is no such key."""
        return None

    @classmethod
    def extra_names(cls) -> Iterable[str]:
        """Keys that `extra_kind` knows, as far as they can be told beforehand."""
        return ()

    @classmethod
    def model_validate(cls, data: object) -> Self:
        """The section that a JSON object describes. Raises ConfigError; unknown keys are left out."""
        reader = Reader()
        section: Self = reader.read(cls, data)
        if reader.problems:
            raise ConfigError("\n".join(reader.problems))
        return section

    def model_dump(self, *, by_alias: bool = False) -> dict[str, Any]:
        """The section as a JSON object, with keys in camelCase if `by_alias`."""
        fields = self.model_fields.items()
        plain = {field.alias if by_alias else name: getattr(self, name) for name, field in fields}
        return {name: _dumped(value, by_alias) for name, value in (plain | self.model_extra).items()}

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.model_dump() == other.model_dump()

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name, field in self.model_fields.items() if field.repr)
        return f"{type(self).__name__}({', '.join(shown)})"


def fields_of(kind: Any) -> dict[str, Field]:
    """The fields by their keys in camelCase if `kind` is a section, else none."""
    if not isinstance(kind, type) or not issubclass(kind, Section):
        return {}
    fields = {field.alias: field for field in kind.model_fields.values()}
    for name in kind.extra_names():
        if fields_of(inner := kind.extra_kind(name)):
            fields[name] = Field(inner, annotation=inner, alias=name)
    return fields


def entry_of(kind: Any) -> Any:
    """The type of the values if `kind` is an object whose keys the owner chooses, else None."""
    return get_args(kind)[1] if get_origin(kind) is dict else None


def to_camel(name: str) -> str:
    if "_" not in name and name[:1].islower():
        return name
    first, *rest = name.lower().split("_")
    return first + "".join(word.capitalize() for word in rest)


def _dumped(value: Any, by_alias: bool) -> Any:
    if isinstance(value, Section):
        return value.model_dump(by_alias=by_alias)
    if isinstance(value, dict):
        return {name: _dumped(item, by_alias) for name, item in value.items()}
    return value


class Reader:
    """Makes values of the types that fields have. `problems` and `warnings` name keys, never values.

    With an `environment` the `${VAR}`s in texts are replaced. `origins` tells of a path who gave its value.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = environment
        self.origins: dict[str, str] = {}
        self.warnings: list[str] = []
        self.problems: list[str] = []

    def read(self, kind: Any, value: Any, path: str = "", field: Field = _ANY, expand: bool = True) -> Any:
        """`value` as a `kind`, which is the type of `field` or a part of it, such as that of an entry.

        The result is only good if there are no `problems` afterwards. `expand` False leaves `${VAR}`s alone.
        """
        options, origin = get_args(kind), get_origin(kind)
        if NoneType in options:
            return None if value is None else self.read(options[0], value, path, field, expand)
        if isinstance(value, str) and expand and self._environment is not None:
            value = _REFERENCE.sub(lambda match: self._variable(match[1], path), value)
        elif isinstance(value, dict):
            expand = expand and value.get("enabled") is not False  # what is switched off needs no variables
            if isinstance(kind, type) and issubclass(kind, Section):
                return self._section(kind, value, path, expand)
            if origin is dict or kind is Any:
                inner = options[1] if options else Any
                return {
                    name: self.read(inner, item, f"{path}.{name}", field, expand)
                    for name, item in value.items()
                }
        elif isinstance(value, list) and (origin is list or kind is Any):
            inner = options[0] if options else Any
            return [
                self.read(inner, item, f"{path}.{index}", field, expand) for index, item in enumerate(value)
            ]
        try:
            return _plain(kind, value, field)
        except ValueError as error:
            return self._problem(path, f"expected {error}")

    def _section(self, kind: type[Section], data: dict[str, Any], path: str, expand: bool) -> Section:
        names = {field.alias: name for name, field in kind.model_fields.items()}
        values: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        seen: set[str] = set()
        for given, value in data.items():
            alias = to_camel(given) if to_camel(given) in names else given
            place, faults = f"{path}.{alias}".lstrip("."), len(self.problems)
            if alias in seen:
                self.warnings.append(f"{place}: given in two spellings, the first one counts")
            elif alias in names:
                field = kind.model_fields[names[alias]]
                found = self.read(field.annotation, value, place, field, expand)
                if len(self.problems) == faults:
                    values[names[alias]] = found
            elif (inner := kind.extra_kind(alias)) is not None:
                extra[alias] = self.read(inner, value, place, _ANY, expand)
            else:
                import difflib

                near = difflib.get_close_matches(alias, [*names, *kind.extra_names()], n=1, cutoff=0.7)
                hint = f"did you mean {near[0]}?" if near else "ignored"
                self.warnings.append(f"{place}: unknown key, {hint}")
            seen.add(alias)
        section = kind(**values)
        section.model_extra = extra
        return section

    def _variable(self, name: str, path: str) -> str:
        known = self._environment or {}
        if name not in known:
            self._problem(path, f"the environment variable {name} is not set")
        return known.get(name, "")

    def _problem(self, path: str, text: str) -> None:
        self.problems.append(f"{path}{self.origins.get(path, '')}: {text}")


def _plain(kind: Any, value: Any, field: Field) -> Any:
    """`value` as a text, a number, a boolean or a choice. Raises ValueError with what is expected."""
    if kind in (int, float):
        value = _number(kind, value)
    elif kind is str:
        if field.numbers_as_text and isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or _HALF_A_PAIR.search(value):
            raise ValueError("a valid string")
    elif kind is bool:
        value = value if isinstance(value, bool) else _BOOLEANS.get(str(value).lower())
        if value is None:
            raise ValueError("true or false")
    elif get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(" or ".join(map(repr, get_args(kind))))
    elif kind is not Any:
        raise ValueError("a valid list" if get_origin(kind) is list else "a valid dictionary")
    for limit, bound in (field.limits or {}).items():
        holds, words = _LIMITS[limit]
        if not holds(value, bound):
            raise ValueError(f"{words} {bound}")
    return value


def _number(kind: type[int] | type[float], value: Any) -> int | float:
    word = "an integer" if kind is int else "a number"
    if isinstance(value, bool):
        raise ValueError("a number, not true or false")
    huge = kind is int and isinstance(value, float) and abs(value) >= 2.0**63  # its last digits are made up
    if huge or not isinstance(value, int | float | str):
        raise ValueError(f"a valid {word.split()[1]}")
    try:
        number = kind(value)
    except (ValueError, OverflowError):
        raise ValueError(f"a valid {word.split()[1]}, unable to parse string as {word}") from None
    if kind is int and isinstance(value, float) and number != value:
        raise ValueError("a valid integer, got a number with a fractional part")
    return number
