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

from nanobot.config.json_text import to_camel
from nanobot.errors import ConfigError

# `$${` for `${`, what only VS Code fills in, and ${NAME}, ${env:NAME}, ${NAME:-default}
_REFERENCE = re.compile(
    r"\$\$\{|\$\{((?:input|command|config):[^{}]*)\}"
    r"|\$\{(?:env:)?([A-Za-z_]\w*)(?::-((?:[^{}]|\$\{[^{}]*\})*))?\}"
)
_HALF_A_PAIR = re.compile(r"[\ud800-\udfff]")  # JSON can write what no file, page or program can be given
_BOOLEANS = dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True)
_BOOLEANS |= dict.fromkeys(("0", "false", "f", "no", "n", "off"), False)
_LIMITS: dict[str, tuple[Callable[[Any, float], bool], str]] = {
    "ge": (operator.ge, "greater than or equal to"),
    "gt": (operator.gt, "greater than"),
    "le": (operator.le, "less than or equal to"),
    "min_length": (lambda text, least: len(text) >= least, "a text of a length of at least"),
}
_LEFT_OUT: Any = object()  # stands for a value that cannot be used


@dataclass(frozen=True, slots=True)
class Field:
    """A key of a section. One with `repr` False is a secret: it stays out of `repr` and error texts.

    The default of a section within a section is its class. `limits` may hold ge, gt, le and min_length, which
    in a list are those of its entries. `also` is what other programs call the key. The default stands in for
    a variable that is not set, unless the value is a `guard`: then nothing is as safe as what was meant.
    `alone` is as in Section, for an object whose keys the owner chooses.
    """

    default: Any
    description: str = ""
    repr: bool = True
    also: tuple[str, ...] = ()
    guard: bool = False
    alone: str = ""
    limits: Mapping[str, float] | None = None
    annotation: Any = None
    alias: str = ""  # how the key is written
    numbers_as_text: bool = False

    @property
    def spellings(self) -> tuple[str, ...]:
        """All names of the key in camelCase, ours first."""
        return (self.alias, *self.also)


_ANY = Field(None)


def key(default: Any, meaning: str, *, secret: bool = False, **more: Any) -> Any:
    """Declares a key of a section; `more` are its limits, `also`, `guard` and `alone`, see Field."""
    limits = {name: more.pop(name) for name in _LIMITS if name in more}
    return Field(default, meaning, not secret, limits=limits, **more)


class Section:
    """Attributes are snake_case; keys are written in camelCase and read in both spellings.

    `model_fields_set` names the attributes that were given, `model_extra` holds the values of `extra_kind`.
    `alone` says what is off when something in the section is wrong; `fault` tells that, and all else works.
    `verbatim` sections are read as they are written, into a dict, unless they have a fault.
    """

    model_fields: ClassVar[dict[str, Field]] = {}
    numbers_as_text: ClassVar[bool] = False  # whether 12 will do where a text is expected
    alone: ClassVar[str] = ""
    verbatim: ClassVar[bool] = False
    hints: ClassVar[Mapping[str, str]] = {}  # what to write instead of keys that are not ours
    fault = ""

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
    def adopt(cls, data: dict[str, Any], warnings: list[str]) -> dict[str, Any]:
        """A JSON object as it is written here, of one that may be written as in other programs."""
        return data

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
            raise ConfigError("\n".join(problem.text for problem in reader.problems))
        return section

    def model_dump(self, *, by_alias: bool = False) -> dict[str, Any]:
        """The section as a JSON object, with keys in camelCase if `by_alias`."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: plain(item) for name, item in value.items()}
            return value.model_dump(by_alias=by_alias) if isinstance(value, Section) else value

        fields = self.model_fields.items()
        own = {field.alias if by_alias else name: getattr(self, name) for name, field in fields}
        dumped: dict[str, Any] = plain(own | self.model_extra)
        return dumped

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


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, with the path but no value, and what is `off` for it; if nothing is named, all is."""

    text: str
    off: str = ""


class Reader:
    """Makes values of the types that fields have. With an `environment` the `${VAR}`s in texts are replaced.

    `warnings` name keys, never values. `origins` tells of a path who gave its value.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = environment
        self._off = ""  # what is off if the value being read is wrong
        self.origins: dict[str, str] = {}
        self.warnings: list[str] = []
        self.problems: list[Problem] = []

    def read(self, kind: Any, value: Any, path: str = "", field: Field = _ANY, expand: bool = True) -> Any:
        """`value` as a `kind`, which is the type of `field` or a part of it, such as that of an entry.

        The result is only good if there are no `problems` afterwards. `expand` False leaves `${VAR}`s alone.
        """
        options, origin = get_args(kind), get_origin(kind)
        if NoneType in options:
            return None if value is None else self.read(options[0], value, path, field, expand)
        if isinstance(kind, type) and issubclass(kind, Section):
            return self._section(kind, value, path, expand)
        is_dict = isinstance(value, dict) and (origin is dict or kind is Any)
        if is_dict or (isinstance(value, list) and (origin is list or kind is Any)):
            inner, expand = (options[-1] if options else Any), expand and not _is_off(value)
            parts = value.items() if is_dict else enumerate(value)
            read = {at: self.read(inner, part, f"{path}.{at}", field, expand) for at, part in parts}
            kept = {at: part for at, part in read.items() if part is not _LEFT_OUT}
            return kept if is_dict else list(kept.values())
        if isinstance(value, str) and expand and self._environment is not None:
            value = self._expanded(value, path, field)
        try:
            return value if value is _LEFT_OUT else _plain(kind, value, field)
        except ValueError as error:
            self._problem(path, f"expected {error}")
            return _LEFT_OUT

    def _section(self, kind: type[Section], data: Any, path: str, expand: bool) -> Section | dict[str, Any]:
        begin, around = len(self.problems), self._off
        self._off = own = kind.alone or around
        if not isinstance(data, dict):
            self._problem(path, "expected a valid dictionary")
            data = {}
        data = kind.adopt(data, self.warnings)
        names = {word: name for name, field in kind.model_fields.items() for word in field.spellings}
        switches = {name: value for name, value in data.items() if kind.verbatim or name in names}
        expand = expand and not _is_off(switches)  # what is switched off needs no variables
        values: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for written, value in data.items():
            camel = to_camel(written)
            alias = camel if camel in names else written
            place, name = f"{path}.{alias}".lstrip("."), names.get(alias, "")
            if name in values:
                self.warnings.append(f"{place}: given in two spellings, the first one counts")
            elif name:
                field = kind.model_fields[name]
                self._off = field.alone or own
                values[name] = self.read(field.annotation, value, place, field, expand)
            elif (inner := kind.extra_kind(alias)) is not None:
                extra[alias] = self.read(inner, value, place, _ANY, expand)
            else:
                near = 'write "enabled": false' if camel == "disabled" and "enabled" in names else ""
                hint = near or kind.hints.get(camel) or _hint(camel, [*names, *kind.extra_names()])
                self.warnings.append(f"{place}: unknown key, {hint}")
        self._off = around
        section = kind(**{name: value for name, value in values.items() if value is not _LEFT_OUT})
        section.model_extra = extra
        if kind.alone:
            section.fault = "; ".join(problem.text for problem in self.problems[begin:])
        return extra if kind.verbatim and not section.fault else section

    def _expanded(self, text: str, path: str, field: Field) -> str:
        """`text` with its variables; _LEFT_OUT if one is missing."""
        missing: list[str] = []

        def value_of(match: re.Match[str]) -> str:
            foreign, name, default = match.groups()
            known = (self._environment or {}).get(name or "")
            if known or (known is not None and default is None):
                return known
            if default is not None:
                return _REFERENCE.sub(value_of, default)
            if foreign:
                fix = "write ${NAME} and set that environment variable"
                missing.append(f"${{{foreign}}} is filled in by VS Code alone; {fix}")
            elif name:
                missing.append(f"the environment variable {name} is not set")
            return "${"

        text = _REFERENCE.sub(value_of, text)
        for fault in missing:
            if self._off or field.guard:
                self._problem(path, fault)
            else:
                self.warnings.append(f"{path}: {fault}, so the default counts")
        return _LEFT_OUT if missing else text

    def _problem(self, path: str, text: str) -> None:
        self.problems.append(Problem(f"{path}{self.origins.get(path, '')}: {text}", self._off))


def _is_off(data: Any) -> bool:
    switches = {"enabled": False, "isActive": False, "disabled": True}
    return isinstance(data, dict) and any(
        _BOOLEANS.get(str(data[name]).lower()) is off for name, off in switches.items() if name in data
    )


def _hint(given: str, names: Iterable[str]) -> str:
    """The key that differs by a slip of the keyboard; another word may be the opposite, or another unit."""
    for name in names:
        if len(given) < len(name) + 2 and _slips(given) & _slips(name):
            return f"did you mean {name}?"
    return "ignored"


def _slips(word: str) -> set[str]:
    """The word in lower case, and without one of its letters."""
    return {(word[:at] + word[at + 1 :]).lower() for at in range(len(word) + 1)}


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
