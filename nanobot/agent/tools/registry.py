"""The tools of a process or a turn, in a fixed order: defined for the model, arguments checked."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from nanobot.agent.tools import Tool
from nanobot.errors import ToolError
from nanobot.messages import ToolCall, ToolDefinition

log = logging.getLogger(__name__)

_HINT = 80  # characters
_SHOWN = 200
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
_SIMPLE = {"type", "description", "minimum", "maximum", "default", "title"}


class ToolReport(NamedTuple):
    """A line of `nanobot tools list`; `skipped` says why there is no such tool, whose name may be unknown."""

    name: str
    origin: str
    skipped: str = ""


class ToolSource(Protocol):
    """Tools that come and go while nanobot runs: plugins, MCP servers."""

    async def tools(self) -> Sequence[Tool]:
        """The tools for the next turn, in a stable order."""

    async def report(self) -> Sequence[ToolReport]:
        """What there is and what was skipped, as far as it can be told at once."""

    async def aclose(self) -> None: ...


class Toolbox:
    """Tools by name: built-in ones win over those of sources, earlier sources over later ones.

    `definitions` are what the model is told, always in the same order, in `size` characters.
    """

    def __init__(self, built_in: Sequence[Tool], sources: Sequence[ToolSource] = ()) -> None:
        self._built_in = list(built_in)
        self._sources = sources
        self._offer(self._built_in)

    async def refresh(self) -> None:
        """Take what the sources have just now."""
        found = list(self._built_in)
        for source in self._sources:
            found += await source.tools()
        if found != self._found:
            self._offer(found)

    def _offer(self, found: list[Tool]) -> None:
        self._found = found
        self.by_name: dict[str, Tool] = {}
        for tool in found:
            if self.by_name.setdefault(tool.name, tool) is not tool:
                log.warning("A second tool called %r is left out.", tool.name)
        tools = self.by_name.values()
        self.definitions = tuple(ToolDefinition(it.name, it.description, it.parameters) for it in tools)
        self.size = len(str(self.definitions))

    @property
    def for_subagents(self) -> tuple[str, ...]:
        """The names of the tools that subagents may be given."""
        return tuple(name for name, tool in self.by_name.items() if not tool.owner_only)

    def get(self, name: str) -> Tool:
        """The tool called `name`. Raises ToolError naming the nearest ones."""
        if name not in self.by_name:
            import difflib

            near = difflib.get_close_matches(name, self.by_name, n=3) or list(self.by_name)
            raise ToolError(f"There is no tool {_shown(name)}. Available: {', '.join(near)}.")
        return self.by_name[name]

    def validate(self, tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """`arguments` made fit for `tool`: "5" becomes 5, nulls for options and unknown ones are dropped.

        Raises ToolError saying what is wrong where, and what the tool takes.
        """
        schema = tool.parameters
        properties, required = schema.get("properties", {}), schema.get("required", [])
        takes_anything = not properties or schema.get("additionalProperties")
        fitted = {
            name: _converted(value, properties.get(name, {}))
            for name, value in arguments.items()
            if (name in properties or takes_anything) and (value is not None or name in required)
        }
        schema = _shallow(schema) if tool.origin == "mcp" else schema
        if not _fits_plainly(schema, fitted) and (problem := _problem(schema, fitted, arguments)):
            raise ToolError(f"{problem}. {tool.name} takes: {_signature(schema)}.")
        return fitted

    def hint(self, call: ToolCall) -> str:
        """The call in one short line without control characters, for example `read_file("notes.md")`."""
        tool = self.by_name.get(call.name)
        wanted = [*(tool.parameters.get("properties", ()) if tool else ()), *call.arguments]
        first = next((call.arguments[name] for name in wanted if name in call.arguments), None)
        text = _one_line(f"{call.name}({'' if first is None else _shown(first)})")
        return text if len(text) <= _HINT else f"{text[: _HINT - 2]}…)"

    async def report(self) -> list[ToolReport]:
        """Every tool in this order, those that are left out as well."""
        reports = [ToolReport(tool.name, "built-in") for tool in self._built_in]
        for source in self._sources:
            for report in await source.report():
                taken = {other.name for other in reports if not other.skipped}
                skipped = report.skipped or (report.name in taken and "another tool has this name") or ""
                reports.append(report._replace(skipped=skipped))
        return reports

    async def aclose(self) -> None:
        for source in self._sources:
            await source.aclose()


def _converted(value: Any, schema: Any) -> Any:
    """`value` in the type its schema names, where nothing is lost; models often quote numbers."""
    wanted = schema.get("type") if isinstance(schema, dict) else None
    if not isinstance(wanted, str) or wanted not in _TYPES or _is(value, wanted):
        return value
    if isinstance(value, float) and wanted == "integer" and value.is_integer():
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and wanted == "string":
        return json.dumps(value)
    try:
        parsed = json.loads(value.lower() if value in ("True", "False") else value)
    except (TypeError, ValueError, RecursionError):
        return value
    return parsed if _is(parsed, wanted) else value


def _is(value: Any, wanted: str) -> bool:
    return isinstance(value, _TYPES[wanted]) and (wanted == "boolean" or not isinstance(value, bool))


def _fits_plainly(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> bool:
    """Whether simple arguments are right beyond doubt: importing jsonschema costs 0.16 s of CPU."""
    if set(schema) - {"type", "properties", "required"} or set(schema.get("required", ())) - set(arguments):
        return False
    for name, value in arguments.items():
        wanted = schema.get("properties", {}).get(name)
        if not isinstance(wanted, dict) or set(wanted) - _SIMPLE or str(wanted.get("type")) not in _TYPES:
            return False
        is_number = isinstance(value, int | float)
        if is_number and not wanted.get("minimum", value) <= value <= wanted.get("maximum", value):
            return False
        if not _is(value, wanted["type"]):
            return False
    return True


def _shallow(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What can be checked of a stranger's schema in no time: a pattern or a reference may take for ever."""
    properties = schema.get("properties", {}).items()
    types = {name: inner.get("type") for name, inner in properties if isinstance(inner, dict)}
    known = {name: {"type": kind} for name, kind in types.items() if isinstance(kind, str) and kind in _TYPES}
    return {"type": "object", "properties": known, "required": schema.get("required", [])}


def _problem(schema: Mapping[str, Any], arguments: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """What JSON Schema says against the arguments, or "". References are never fetched from elsewhere."""
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
    unknown = ", ".join(repr(name) for name in given if name not in schema.get("properties", {}))
    path = ".".join(str(part) for part in error.absolute_path)
    place = f"Argument {path!r}: " if path else f"Unknown argument {unknown}: " if unknown else ""
    return _one_line(place + error.message)[:_SHOWN]


def _signature(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", [])
    described = [
        f"{name} ({inner.get('type', 'any')}{', required' if name in required else ''})"
        for name, inner in schema.get("properties", {}).items()
        if isinstance(inner, dict)
    ]
    return ", ".join(described)[:600] or "no arguments"


def _shown(value: Any) -> str:
    clipped = value[:_SHOWN] if isinstance(value, str) else value
    return _one_line(json.dumps(clipped, ensure_ascii=False, default=str))[:_SHOWN]


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
