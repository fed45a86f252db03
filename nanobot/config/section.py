"""The base of every part of the configuration: what may be in a section, and how one is made of JSON.

The names are pydantic's; to import it and compile its validators took a third of the time of an `agent -m`.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from types import NoneType
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args, get_origin, get_type_hints

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
_SWITCHES = {"enabled": False, "isActive": False, "disabled": True}  # what is off says one of these
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
    alone: ClassVar[str] = ""
    verbatim: ClassVar[bool] = False
    hints: ClassVar[Mapping[str, str]] = {}  # what to write instead of keys that are not ours
    extra_names: ClassVar[tuple[str, ...]] = ()  # of what `extra_kind` knows, as far as it can be told
    fault = ""

    def __init_subclass__(cls) -> None:
        cls.model_fields = {}
        for name, kind in get_type_hints(cls).items():
            if get_origin(kind) is not ClassVar:
                given = getattr(cls, name)
                field = given if isinstance(given, Field) else Field(given)
                cls.model_fields[name] = replace(field, annotation=kind, alias=to_camel(name))

    def __init__(self, **values: Any) -> None:
        self.model_fields_set = set(values)
        self.model_extra: dict[str, Any] = {}
        for name, declared in self.model_fields.items():
            default = declared.default
            made = default() if isinstance(default, type) else deepcopy(default)
            setattr(self, name, values.pop(name, made))
        if values:
            raise TypeError(f"{type(self).__name__} has no {', '.join(values)}")

    @classmethod
    def extra_kind(cls, name: str) -> Any:
        """The type of a key that no field describes; None: there is no such key."""
        return None

    @classmethod
    def adopt(cls, data: dict[str, Any], warnings: list[str]) -> dict[str, Any]:
        """A JSON object as it is written here, of one that may be written as in other programs."""
        return data

    @classmethod
    def model_validate(cls, data: object) -> Self:
        """The section that a JSON object describes. Raises ConfigError; unknown keys are left out."""
        reader = Reader()
        section: Self = reader.read(cls, data)
        if reader.problems:
            raise ConfigError("\n".join(problem.text for problem in reader.problems))
        return section

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name, field in self.model_fields.items() if field.repr)
        return f"{type(self).__name__}({', '.join(shown)})"


def fields_of(kind: Any) -> dict[str, Field]:
    """The fields by their keys in camelCase if `kind` is a section, else none."""
    if not isinstance(kind, type) or not issubclass(kind, Section):
        return {}
    fields = {field.alias: field for field in kind.model_fields.values()}
    for name in kind.extra_names:
        if fields_of(inner := kind.extra_kind(name)):
            fields[name] = Field(inner, annotation=inner, alias=name)
    return fields


def entry_of(kind: Any) -> Any:
    """The type of the values if `kind` is an object whose keys the owner chooses, else None."""
    return get_args(kind)[1] if get_origin(kind) is dict else None


class Problem(NamedTuple):
    """What is wrong, with the path but no value, and what is `off` for it; if nothing is named, all is."""

    text: str
    off: str


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
        try:
            if isinstance(value, str) and expand and self._environment is not None:
                value = _expanded(value, self._environment)
            return _plain(kind, value, field)
        except LookupError as missing:
            if self._off or field.guard:
                self._problem(path, missing.args[0])
            else:
                self.warnings.append(f"{path}: {missing.args[0]}, so the default counts")
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
        names = {word: name for name, its in kind.model_fields.items() for word in (its.alias, *its.also)}
        is_off = (kind.verbatim or "enabled" in names) and _is_off(data)
        expand = expand and not is_off  # what is switched off needs no variables
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
            elif camel not in _SWITCHES or "enabled" not in names:
                hint = kind.hints.get(camel) or _hint(camel, [*names, *kind.extra_names])
                self.warnings.append(f"{place}: unknown key, {hint}")
        self._off = around
        if is_off and not kind.verbatim:
            values["enabled"] = False
        section = kind(**{name: value for name, value in values.items() if value is not _LEFT_OUT})
        section.model_extra = extra
        if kind.alone:
            section.fault = "; ".join(problem.text for problem in self.problems[begin:])
        return extra if kind.verbatim and not section.fault else section

    def _problem(self, path: str, text: str) -> None:
        self.problems.append(Problem(f"{path}{self.origins.get(path, '')}: {text}", self._off))


def _expanded(text: str, environment: Mapping[str, str]) -> str:
    """`text` with its variables. Raises LookupError for one that is missing."""

    def value_of(match: re.Match[str]) -> str:
        foreign, name, default = match.groups()
        if foreign:
            fix = "write ${NAME} and set that environment variable"
            raise LookupError(f"${{{foreign}}} is filled in by VS Code alone; {fix}")
        if not name:
            return "${"
        known = environment.get(name)
        if default is not None and not known:
            return _REFERENCE.sub(value_of, default)
        if known is None:
            raise LookupError(f"the environment variable {name} is not set")
        return known

    return _REFERENCE.sub(value_of, text)


def _is_off(data: Any) -> bool:
    return isinstance(data, dict) and any(
        _SWITCHES.get(to_camel(name)) is _BOOLEANS.get(str(value).lower(), "") for name, value in data.items()
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
        value = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
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
    huge = kind is int and isinstance(value, float) and abs(value) >= 2.0**63  # its last digits are made up
    try:
        if isinstance(value, int | float | str) and not isinstance(value, bool) and not huge:
            number = kind(value)
            if isinstance(value, str) or number == value:
                return number
    except (ValueError, OverflowError):
        pass
    raise ValueError("a valid integer" if kind is int else "a valid number")
