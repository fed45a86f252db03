"""A plugin file: importing it, and making tools of the classes it defines."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import inspect
import json
import os
import re
import sys
from collections.abc import Awaitable, Iterator
from functools import partial
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType
from typing import Any

from nanobot.agent.tools import (
    Tool,
    ToolContext,
    ToolOutput,
    current_call_id,
    current_turn,
    report_output,
    tool_surroundings,
)
from nanobot.errors import ToolError
from nanobot.messages import ImagePart
from nanobot.plugins.threads import PluginThreads, describe_fault
from nanobot.security.screen import rendered

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # what every provider accepts
_TYPES = ("string", "integer", "number", "boolean", "array", "object")
_PLAIN: dict[str, Any] = {"type": str, "description": str, "properties": dict, "required": list}
_PLAIN |= {"minimum": (int, float), "maximum": (int, float), "default": object}
_SHORTEST_LIMIT = 60  # seconds


class PluginTool(Tool):
    """A tool of a plugin as nanobot uses it. Everything but `execute` was asked when it was loaded.

    Raises ToolError when the plugin describes itself in a way that no model can be told.
    """

    name = ""
    description = ""
    parameters = {}  # noqa: RUF012

    def __init__(self, plugin: Tool, threads: PluginThreads, context: ToolContext) -> None:
        self._plugin = plugin
        self._threads = threads
        self.name, self.description = plugin.name, plugin.description
        self.parameters = _checked_schema(plugin.parameters)
        self.read_only, self.repeatable = bool(plugin.read_only), bool(plugin.repeatable)
        self.errors_are_text, self.owner_only = bool(plugin.errors_are_text), bool(plugin.owner_only)
        self.origin = plugin.origin
        self._seconds = float(plugin.time_limit or max(context.exec_timeout, _SHORTEST_LIMIT))
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ToolError(f"The name {self.name!r} is not 1 to 64 letters, digits, _ or -.")
        if not isinstance(self.description, str) or _encodable(self.description) != self.description:
            raise ToolError("The description is no text.")

    async def execute(self, **kwargs: Any) -> str | ToolOutput:
        loop, outside = asyncio.get_running_loop(), contextvars.copy_context()

        def report(text: str) -> None:
            loop.call_soon_threadsafe(report_output, text, context=outside)

        try:
            with tool_surroundings(current_turn(), current_call_id(), report):
                work = partial(_run, self._plugin, kwargs)
                output: ToolOutput = await self._threads.run(work, self._seconds)
        except TimeoutError as error:
            raise ToolError(
                f"{self.name} did not end within {self._seconds:g} seconds and was given up. "
                "Its owner can allow more: time_limit in the plugin's class."
            ) from error
        return output


def load_tools(
    file: Path, context: ToolContext, threads: PluginThreads
) -> tuple[list[PluginTool], list[str]]:
    """The tools a file defines, and what is wrong with its other classes. Raises whatever the file raises."""
    name = module_name(file)
    module = module_from_spec(fresh_spec(name, file))
    sys.modules[name] = module  # dataclasses look for it there
    FreshLoader(name, str(file)).exec_module(module)
    tools, faults = [], []
    for cls in _tool_classes(vars(module)):
        try:
            tools.append(PluginTool(_instance(cls, context), threads, context))
        except BaseException as error:  # noqa: BLE001  # the other classes may be fine
            faults.append(f"{cls.__name__}: {describe_fault(error, file.parent)}")
    return tools, faults


def module_name(file: Path) -> str:
    """The name a plugin is imported under; its bare one may be that of a library."""
    return f"nanobot_plugin_{file.stem}"


class FreshLoader(SourceFileLoader):
    """Compiles what is in the file now: cached bytecode misses the second change within a second.

    Raises ToolError for a link: what is behind it may be a file that tools write.
    """

    def get_data(self, path: str) -> bytes:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise ToolError(f"{Path(path).name} is a link, which is not run. Put a copy there.") from error
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def fresh_spec(name: str, file: Path) -> ModuleSpec:
    """How to import `file` as `name`, past the cache of bytecode."""
    spec = spec_from_file_location(name, file, loader=FreshLoader(name, str(file)))
    assert spec is not None
    return spec


def _tool_classes(names: dict[str, Any]) -> Iterator[type[Tool]]:
    """The classes defined here, in their order, without those that only serve others as a base."""
    for cls in dict.fromkeys(value for value in names.values() if isinstance(value, type)):
        is_base = inspect.isabstract(cls) and bool(cls.__subclasses__() or cls.__name__[0] == "_")
        if issubclass(cls, Tool) and cls.__module__ == names["__name__"] and not is_base:
            yield cls


def _instance(cls: type[Tool], context: ToolContext) -> Tool:
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD or (
            parameter.name == "context" and parameter.kind is not parameter.POSITIONAL_ONLY
        ):
            return cls(context=context)  # type: ignore[call-arg]
    return cls()


def _checked_schema(schema: Any) -> dict[str, Any]:
    """A copy of `parameters`. Raises ToolError when they are no JSON Schema of an object."""
    try:
        text = json.dumps(schema, allow_nan=False, ensure_ascii=False)
        copy: dict[str, Any] = json.loads(_encodable(text))
    except (TypeError, ValueError, RecursionError) as error:
        raise ToolError(f"The parameters cannot be written as JSON: {error}.") from error
    if not isinstance(copy, dict) or copy.get("type") != "object":
        raise ToolError('The parameters are no JSON Schema with "type": "object".')
    if not _is_plain(copy):
        from jsonschema import Draft202012Validator, SchemaError

        try:
            Draft202012Validator.check_schema(copy)
        except SchemaError as error:
            raise ToolError(f"The parameters are no valid JSON Schema: {error.message}.") from error
    return copy


def _is_plain(schema: Any) -> bool:
    """Whether a schema is right beyond doubt: importing jsonschema costs 0.16 s of CPU."""
    return (
        isinstance(schema, dict)
        and all(isinstance(value, _PLAIN.get(key, ())) for key, value in schema.items())
        and schema.get("type") in _TYPES
        and all(isinstance(name, str) for name in schema.get("required", ()))
        and all(_is_plain(inner) for inner in schema.get("properties", {}).values())
    )


def _run(plugin: Tool, arguments: dict[str, Any]) -> ToolOutput | Awaitable[ToolOutput]:
    result: Any = plugin.execute(**arguments)
    return _output_of(result) if inspect.isawaitable(result) else _as_output(result)


async def _output_of(result: Awaitable[Any]) -> ToolOutput:
    return _as_output(await result)


def _as_output(result: Any) -> ToolOutput:
    """Text of whatever a tool returns: JSON of data, "(no output)" of None."""
    if isinstance(result, ToolOutput):
        images = tuple(image for image in result.images if isinstance(image, ImagePart))
        return result._replace(text=rendered(_encodable(str(result.text))), images=images)
    text = result.decode("utf-8", "replace") if isinstance(result, bytes) else result
    if not isinstance(text, str):
        try:
            text = "(no output)" if text is None else json.dumps(text, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError):
            text = str(text)
    return ToolOutput(rendered(_encodable(text)))


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
