"""Tool calls that a model writes as text, because its server does not read them.

They are run when they are the whole answer, or when they end it behind words: then they begin with a marker
outside of code and quotation, and are complete. The tools must have been offered and know the arguments, so a
text that a model repeats becomes a call no more easily than a native one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nanobot.messages import ToolCall, ToolDefinition
from nanobot.providers.conversation import clean_text

# What chat templates put around calls: Hermes, Qwen and GLM; MiniMax and Seed; Llama; Mistral; Granite and
# Phi; Nemotron; Kimi; DeepSeek; InternLM; Command R; FireFunction.
_MARKERS = (
    *("<tool_call>", "</tool_call>", "<tool_calls>", "</tool_calls>", "<function=", "</function>"),
    *("<minimax:tool_call>", "</minimax:tool_call>", "<seed:tool_call>", "</seed:tool_call>"),
    *("<function_calls>", "</function_calls>", '<invoke name="', "</invoke>"),
    *("<|python_tag|>", "<|eom_id|>", "<|eot_id|>", "[TOOL_CALLS]", "[ARGS]", "[/TOOL_CALLS]"),
    *("<|tool_call|>", "<|/tool_call|>", "<TOOLCALL>", "</TOOLCALL>"),
    *("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    *("<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"),
    *("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"),
    *("<｜tool▁sep｜>", "<|action_start|>", "<|plugin|>", "<|action_end|>"),
    *("<|START_ACTION|>", "<|END_ACTION|>", "functools"),
)
_GAP = r"(?:\s|[;,]|```(?:json|xml|tool_call|tool_code)?)+"
_NAME = r'(?:functions\.)?([\w.-]{1,64})(?::\d+)?"?>?'
# Some write every argument between tags: before its name, before its value, behind that.
_ARGUMENT_TAGS = (
    ("<parameter=", ">", "</parameter>"),
    ('<parameter name="', '">', "</parameter>"),
    ("<arg_key>", "</arg_key>", "</arg_value>"),
)
_NAME_KEYS = ("name", "tool_name", "tool", "function", "action")
_ARGUMENT_KEYS = ("arguments", "parameters", "args", "tool_input", "action_input")
_OTHER_KEYS = {"id", "type", "tool_call_id"}
# The markers with which calls may begin behind words. Those of the second row need no end.
_OPENINGS = (
    *("<tool_call>", "<tool_calls>", "<minimax:tool_call>", "<seed:tool_call>", "<function_calls>"),
    *("<function=", '<invoke name="', "<|tool_calls_section_begin|>", "<｜tool▁calls▁begin｜>", "<TOOLCALL>"),
    *("<|action_start|>", "<|START_ACTION|>"),
)
_ENDLESS = ("<|python_tag|>", "[TOOL_CALLS]", "<|tool_call|>")
_ENDS = tuple(mark for mark in _MARKERS if mark.startswith("</") or "end" in mark.lower())
_OPENING = rf"(?<![`\"'])(?:{'|'.join(map(re.escape, _OPENINGS + _ENDLESS))})"
# Fences, lines that are quoted or code, and what else stands at the beginning of calls.
_PLACES = rf"(?m)^[ \t>*+-]*(?P<fence>`{{3,}}|~{{3,}})|^(?:[ \t]*>| {{4}}|\t).*$|(?P<opening>{_OPENING})"
_UNDECIDED = 100  # characters at the end of a text that may yet become a marker, or the space before one
_BEGINNINGS = (*_MARKERS, "{", "[{", "```json", "```xml", "```tool_c", "```{", "```[{", "```<tool_call>")
BEGINNING = 40  # characters of an answer, after which it is clear whether it may be calls


def may_begin_calls(text: str) -> bool:
    """Whether an answer that begins with `text` may turn out to be tool calls."""
    start = "".join(text.split())
    known = ("".join(mark.split()) for mark in _BEGINNINGS)
    return any(start.startswith(mark) or mark.startswith(start) for mark in known)


class CallHolder:
    """Sorts out of an answer, as it comes, what is words for certain. `shown` counts their characters."""

    def __init__(self) -> None:
        self.shown = 0
        self._undecided = ""
        self._is_held = False  # it may be calls from here on

    def feed(self, piece: str) -> str:
        """The words that `piece` brings to light."""
        if self._is_held:
            return ""
        text = self._undecided + piece
        if not self.shown and may_begin_calls(text[:BEGINNING]):
            self._undecided, self._is_held = text, len(text) >= BEGINNING
            return ""
        found = re.search(_OPENING, text)
        self._is_held, end = found is not None, found.start() if found else _decided(text)
        end = max(len(text[:end].rstrip()), end - _UNDECIDED)
        self._undecided = text[end:]
        self.shown += end
        return text[:end]


def _decided(text: str) -> int:
    """Up to where `text` cannot become a marker, whatever follows."""
    end = len(text)
    start = max(text.rfind("<", -_UNDECIDED), text.rfind("[", -_UNDECIDED))
    if start >= 0 and any(mark.startswith(text[start:]) for mark in _OPENINGS + _ENDLESS):
        end = start
    return end - (text[end - 1 : end] in ("`", '"', "'"))


def read_calls(text: str, tools: Sequence[ToolDefinition]) -> tuple[list[ToolCall], str, bool]:
    """The calls that `text` ends with, the words before them, and whether it tries to call anything."""
    schemas = {tool.name: tool.parameters for tool in tools}
    opening = _first_opening(text)
    for start in (0 if may_begin_calls(text[:BEGINNING]) else None, opening):
        try:
            named = list(_named_calls(text[start:])) if start is not None else []
        except (ValueError, RecursionError):
            continue
        calls = [ToolCall("", name, *parse_arguments(given)) for name, given in named]
        is_whole = not start or text.startswith(_ENDLESS, start) or text.rstrip().endswith(_ENDS)
        if calls and is_whole and all(_fits(call, schemas.get(call.name)) for call in calls):
            return calls, text[:start].rstrip(), True
        if calls:
            return [], text, True
    return [], text, opening is not None


def _first_opening(text: str) -> int | None:
    """Where the first marker stands that begins calls and is neither in code nor quoted."""
    fence = ""
    for place in re.finditer(_PLACES, text):
        if mark := place["fence"]:
            if not fence:
                fence = mark
            elif mark.startswith(fence):
                fence = ""
        elif place["opening"] and not fence:
            return place.start()
    return None


def parse_arguments(given: Any) -> tuple[dict[str, Any], str]:
    """The arguments of a call as they were meant: null and nothing are none, and JSON may be quoted twice.

    When they are no JSON object, nothing and the raw text.
    """
    value = given
    try:
        for _ in range(3):
            if isinstance(value, str):
                # Small models break lines within strings; some servers send `{}` before the arguments.
                raw = value.strip()
                value = json.loads(raw.removeprefix("{}") or raw or "{}", strict=False)
        # Escapes may hide lone surrogates, which only show once decoded, and Python reads NaN.
        value = json.loads(clean_text(json.dumps(value, ensure_ascii=False, allow_nan=False)))
    except (ValueError, RecursionError):
        value = False
    known = {} if value is None else value
    return (known, "") if isinstance(known, dict) else ({}, given if isinstance(given, str) else str(given))


def _named_calls(text: str) -> Iterator[tuple[str, Any]]:
    """Names with arguments. Raises ValueError or RecursionError for a text that is something else."""
    if not may_begin_calls(text[:BEGINNING]):
        raise ValueError("no tool call")
    gaps, names = re.compile(_GAP), re.compile(_NAME)
    markers = re.compile("|".join(map(re.escape, _MARKERS)))
    place, is_marked, name = 0, False, ""
    given: dict[str, str] = {}
    while place < len(text):
        if gap := gaps.match(text, place):
            place = gap.end()
        elif marker := markers.match(text, place):
            place, is_marked = marker.end(), True
        elif tags := next(
            (tags for tags in _ARGUMENT_TAGS if name and text.startswith(tags[0], place)), None
        ):
            begin, between, end = tags
            behind = text.index(end, place)
            key, _, value = text[place + len(begin) : behind].partition(between)
            given[key.strip()] = value.strip().removeprefix("<arg_value>").strip("\n")
            place = behind + len(end)
        elif text[place] in "{[":
            value, place = json.JSONDecoder(strict=False).raw_decode(text, place)
            if name and isinstance(value, Mapping):
                yield name, value
                name = ""
            else:
                yield from _described(value, is_marked)
        elif is_marked and (found := names.match(text, place)):
            if name and name != "function":  # DeepSeek writes the type before the name
                yield name, given
            name, given, place = found[1], {}, found.end()
        else:
            raise ValueError("no tool call")
    if name:
        yield name, given


def _described(value: Any, is_marked: bool) -> Iterator[tuple[str, Any]]:
    """The calls that a JSON value describes. Raises ValueError if it is about something else."""
    if isinstance(value, list) and value:
        for one in value:
            yield from _described(one, is_marked)
        return
    if not isinstance(value, Mapping):
        raise ValueError("no tool call")
    if isinstance(inner := value.get("tool_calls") or value.get("function"), Mapping | list):
        yield from _described(inner, is_marked)
        return
    name = next((value[key] for key in _NAME_KEYS if isinstance(value.get(key), str)), "")
    given = [value[key] for key in _ARGUMENT_KEYS if key in value]
    if not name or not (given or is_marked) or set(value) - {*_NAME_KEYS, *_ARGUMENT_KEYS, *_OTHER_KEYS}:
        raise ValueError("no tool call")
    yield name, given[0] if given else None


def _fits(call: ToolCall, schema: Mapping[str, Any] | None) -> bool:
    """Whether the arguments are the tool's and none is missing; their values are checked as for any call."""
    if schema is None:
        return False
    names = set(call.arguments)
    known = bool(schema.get("additionalProperties")) or names <= set(schema.get("properties", ()))
    return known and not call.malformed and set(schema.get("required", ())) <= names
