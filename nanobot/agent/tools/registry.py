"""The tools of a turn in a fixed order: definitions for the model, arguments checked, calls in one line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from nanobot.agent.tools.base import Tool
from nanobot.errors import ToolError, UsageError
from nanobot.messages import ToolCall, ToolDefinition

HINT_CHARS = 80
SHOWN_CHARS = 60

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
_NOTES = {"title", "description", "default", "examples", "format", "$schema", "deprecated"}
_CHECKED = {
    *("type", "enum", "properties", "required", "additionalProperties", "items"),
    *("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"),
}


class ToolRegistry:
    """Tools by name. Raises UsageError when two have the same name: one must not shadow the other."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if tool.name in self._tools:
                raise UsageError(f"Two tools are called {tool.name!r}. Rename one of them.")
            self._tools[tool.name] = tool

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._tools)

    def definitions(self, names: Collection[str] | None = None) -> tuple[ToolDefinition, ...]:
        """What the model is told, always in the same order; `names` selects some of the tools."""
        return tuple(
            ToolDefinition(tool.name, tool.description, tool.parameters)
            for tool in self._tools.values()
            if names is None or tool.name in names
        )

    def get(self, name: str) -> Tool:
        """The tool called `name`. Raises ToolError naming the nearest ones."""
        tool = self._tools.get(name)
        if tool is None:
            near = difflib.get_close_matches(name, self._tools, n=3) or list(self._tools)
            raise ToolError(f"There is no tool {_shown(name)}. Available: {', '.join(near)}.")
        return tool

    def validate(self, tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """`arguments` made fit for `tool`.

        Values that only have the wrong JSON type are converted ("5" to 5, "true" to true), null for an
        optional argument and unknown arguments are dropped. Raises ToolError saying what is wrong where.
        """
        schema = tool.parameters
        known = _known_arguments(schema, arguments)
        fitted = {
            name: _fitted(value, _properties(schema).get(name, {}))
            for name, value in known.items()
            if not _is_empty_option(name, value, schema)
        }
        problem = _misspelling(schema, arguments, fitted) or _problem(schema, fitted)
        if problem:
            raise ToolError(f"{problem}. {tool.name} takes: {_signature(schema)}.")
        return fitted

    def hint(self, call: ToolCall) -> str:
        """The call in one short line without control characters, for example `read_file("notes.md")`."""
        tool = self._tools.get(call.name)
        wanted = [*(_properties(tool.parameters) if tool else ()), *call.arguments]
        first = next((call.arguments[name] for name in wanted if name in call.arguments), None)
        shown = "" if first is None else json.dumps(_clipped(first), ensure_ascii=False, default=str)
        text = _one_line(f"{call.name}({shown})")
        return text if len(text) <= HINT_CHARS else f"{text[: HINT_CHARS - 2]}…)"


def _properties(schema: Mapping[str, Any]) -> dict[str, Any]:
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def _required(schema: Mapping[str, Any]) -> list[str]:
    required = schema.get("required")
    return required if isinstance(required, list) else []


def _known_arguments(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Without arguments the schema does not know, unless it welcomes them."""
    properties = _properties(schema)
    if not properties or schema.get("additionalProperties") or schema.get("patternProperties"):
        return dict(arguments)
    return {name: value for name, value in arguments.items() if name in properties}


def _is_empty_option(name: str, value: Any, schema: Mapping[str, Any]) -> bool:
    types = _types(_properties(schema).get(name, {}))
    return value is None and name not in _required(schema) and bool(types) and "null" not in types


def _misspelling(schema: Mapping[str, Any], given: Mapping[str, Any], fitted: Mapping[str, Any]) -> str:
    missing = [name for name in _required(schema) if name not in fitted]
    for name in given:
        if name not in fitted and name not in _properties(schema):
            near = difflib.get_close_matches(name, missing, n=1, cutoff=0.5)
            if near:
                return f"Unknown argument {_shown(name)}; did you mean {near[0]!r}?"
    return ""


def _types(schema: Any) -> set[str]:
    """The JSON types a schema names, also over anyOf; empty when it allows any."""
    if not isinstance(schema, dict):
        return set()
    named = schema.get("type")
    if isinstance(named, str):
        return {named}
    if isinstance(named, list):
        return {name for name in named if isinstance(name, str)}
    choices = schema.get("anyOf")
    found = [_types(choice) for choice in choices] if isinstance(choices, list) else []
    return set().union(*found) if all(found) else set()


def _fitted(value: Any, schema: Any) -> Any:
    """`value` converted to the type the schema wants where nothing is lost; else as it is."""
    types = _types(schema)
    if types and not any(_is_type(value, name) for name in types):
        value = _converted(value, types)
    if isinstance(value, dict) and isinstance(schema, dict):
        inner = _properties(schema)
        return {name: _fitted(item, inner.get(name, {})) for name, item in value.items()}
    if isinstance(value, list) and isinstance(schema, dict):
        return [_fitted(item, schema.get("items", {})) for item in value]
    if types == {"integer"} and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _converted(value: Any, types: set[str]) -> Any:
    if isinstance(value, str):
        text = value.strip()
        try:
            parsed = json.loads(text.lower() if text in ("True", "False") else text)
        except (ValueError, RecursionError):
            return value
        return parsed if any(_is_type(parsed, name) for name in types) else value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and "string" in types:
        return json.dumps(value)
    return value


def _is_type(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(name, ()))


def _problem(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    """What is wrong with `arguments`, or "". Plain schemas are checked here: jsonschema costs 0.15 s."""
    if _is_plain(schema):
        return _plain_problem(arguments, schema, "")
    return _jsonschema_problem(schema, arguments)


def _is_plain(schema: Any) -> bool:
    return (
        isinstance(schema, dict)
        and set(schema) <= _CHECKED | _NOTES
        and _types(schema) <= set(_TYPES)
        and not isinstance(schema.get("additionalProperties"), dict)
        and all(map(_is_plain, _properties(schema).values()))
        and ("items" not in schema or _is_plain(schema["items"]))
    )


def _plain_problem(value: Any, schema: Mapping[str, Any], path: str) -> str:
    types = _types(schema)
    if types and not any(_is_type(value, name) for name in types):
        return f"Argument {path!r} must be {' or '.join(sorted(types))}, got {_shown(value)}"
    if "enum" in schema and not any(_same(value, choice) for choice in schema["enum"]):
        return f"Argument {path!r} must be one of {_shown(schema['enum'])}, got {_shown(value)}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _bounds(value, schema, "minimum", "maximum", path, "")
    if isinstance(value, str):
        return _bounds(len(value), schema, "minLength", "maxLength", path, " characters long")
    if isinstance(value, list):
        problems = [
            _plain_problem(item, schema.get("items", {}), f"{path}[{n}]") for n, item in enumerate(value)
        ]
        bounds = _bounds(len(value), schema, "minItems", "maxItems", path, " items long")
        return next(filter(None, [bounds, *problems]), "")
    return _object_problem(value, schema, path) if isinstance(value, dict) else ""


def _object_problem(value: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> str:
    dot = f"{path}." if path else ""
    properties = _properties(schema)
    for name in _required(schema):
        if name not in value:
            return f"Missing required argument {dot + name!r}"
    if schema.get("additionalProperties") is False:
        unknown = next((name for name in value if name not in properties), None)
        if unknown is not None:
            return f"Unknown argument {dot + unknown!r}"
    problems = (_plain_problem(item, properties.get(name, {}), dot + name) for name, item in value.items())
    return next(filter(None, problems), "")


def _bounds(size: float, schema: Mapping[str, Any], low: str, high: str, path: str, unit: str) -> str:
    if low in schema and size < schema[low]:
        return f"Argument {path!r} must be at least {schema[low]}{unit}, got {size}"
    if high in schema and size > schema[high]:
        return f"Argument {path!r} must be at most {schema[high]}{unit}, got {size}"
    return ""


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _jsonschema_problem(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    """The check for schemas of plugins and MCP servers. References are never fetched from elsewhere."""
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.exceptions import UnknownType, best_match
    from jsonschema.validators import validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    validator = validator_for(schema, default=Draft202012Validator)
    try:
        validator.check_schema(dict(schema))
        error = best_match(validator(dict(schema), registry=Registry()).iter_errors(arguments))
    except (SchemaError, UnknownType, Unresolvable, RecursionError) as broken:
        raise ToolError("The tool's own parameter schema is broken; it cannot be used.") from broken
    if error is None:
        return ""
    path = ".".join(str(part) for part in error.absolute_path)
    return f"Argument {path!r}: {_clipped(error.message)}" if path else _clipped(error.message)


def _signature(schema: Mapping[str, Any]) -> str:
    required = _required(schema)
    described = [
        f"{name} ({' or '.join(sorted(_types(inner))) or 'any'}{', required' if name in required else ''})"
        for name, inner in _properties(schema).items()
    ]
    return ", ".join(described)[:600] or "no arguments"


def _shown(value: Any) -> str:
    """A value as JSON, short enough for an error text."""
    text = _one_line(json.dumps(_clipped(value), ensure_ascii=False, default=str))
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"


def _clipped(value: Any) -> Any:
    return value[:200] if isinstance(value, str) else value


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
