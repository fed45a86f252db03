"""What strangers say about their tools, made fit for a prompt: names, descriptions, schemas."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

NAME_CHARS = 64  # what OpenAI, Anthropic and Gemini take, out of [a-zA-Z0-9_-]
DESCRIPTION_CHARS = 2_000
MESSAGE_CHARS = 600  # of a server's error or progress
LISTED = "listed"  # key of the schema as the server wrote it, in one that the SDK takes
_FIELD_CHARS = 1_000
_REFUSED = re.compile(r"[^a-zA-Z0-9_-]")
_REFUSED_KEY = re.compile(r"[^a-zA-Z0-9_.-]")
_DATA = {"default", "enum", "const", "examples"}  # values of the tool, not words about it


class ToolNames:
    """Gives each tool of each server a name that providers take and no other tool has.

    A name once given stays with its tool as long as nanobot runs, whatever comes and goes beside it:
    a call must never reach another tool than the one the model saw under that name. Nor does it depend on who
    is faster: a plain name is for the server among `servers` whose own name is the longest that begins it.
    """

    def __init__(self, servers: Iterable[str] = ()) -> None:
        self._beginnings = [_REFUSED.sub("_", f"mcp_{server}_") for server in servers]
        self._names: dict[tuple[str, str], str] = {}
        self._taken: set[str] = set()

    def name(self, server: str, tool: str) -> str:
        """`mcp_{server}_{tool}`, changed as little as possible; a suffix tells apart what would be equal."""
        known = self._names.get((server, tool))
        if known is not None:
            return known
        plain = name = _REFUSED.sub("_", f"mcp_{server}_{tool}")
        own = _REFUSED.sub("_", f"mcp_{server}_")
        claims = [begin for begin in self._beginnings if len(begin) >= len(own) and plain.startswith(begin)]
        seed = f"{server}\0{tool}"
        while len(name) > NAME_CHARS or name in self._taken or (name == plain and len(claims) > 1):
            seed = hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()
            name = f"{plain[: NAME_CHARS - 9]}_{seed[:8]}"
        self._names[server, tool] = name
        self._taken.add(name)
        return name


def printable_text(text: str, limit: int) -> str:
    """`text` without control and invisible characters, cut at `limit`."""
    cleaned = "".join(char for char in text if char.isprintable() or char == "\n").strip()
    return cleaned if len(cleaned) <= limit else f"{cleaned[: limit - 1]}…"


def fit_schema(schema: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The schema as every provider takes it, an object with properties, and the real name of each property
    that had to be called otherwise.

    Providers refuse references and choices at the top (`$ref`, `anyOf` …); their properties are put
    together, and the server is left to judge which go with which.
    """
    fit: dict[str, Any] = _tidied({key: value for key, value in schema.items() if key != "$schema"})
    name = str(fit.pop("$ref", "")).rpartition("/")[2]
    stores = [fit.get("$defs"), fit.get("definitions")]
    parts = [store.get(name) for store in stores if isinstance(store, dict)]
    parts += [part for word in ("allOf", "anyOf", "oneOf") for part in _list(fit.pop(word, None))]
    properties = {key: value for part in (*parts, fit) for key, value in _properties(part).items()}
    real: dict[str, str] = {}
    fit["properties"] = fitted = {}
    taken: dict[str, int] = {}
    for key, value in properties.items():
        name = plain = _REFUSED_KEY.sub("_", key)[: NAME_CHARS - 8] or "_"
        while name != key and (name in properties or name in fitted):
            taken[plain] = taken.get(plain, 1) + 1
            name = f"{plain}_{taken[plain]}"
        if name != key:
            real[name] = key
        fitted[name] = value
    shown = {key: key for key in properties} | {key: name for name, key in real.items()}
    wanted = [key for key in _list(fit.pop("required", None)) if isinstance(key, str)]
    required = {"required": [shown[key] for key in wanted if key in shown]}
    return fit | {"type": "object"} | (required if required["required"] else {}), real


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _properties(schema: Any) -> dict[str, Any]:
    found = schema.get("properties") if isinstance(schema, dict) else None
    return found if isinstance(found, dict) else {}


def _tidied(value: Any) -> Any:
    if isinstance(value, list):
        return [_tidied(item) for item in value]
    if not isinstance(value, dict):
        return value
    tidy: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, str) and key in ("description", "title"):
            tidy[key] = printable_text(inner, _FIELD_CHARS)
        else:
            tidy[key] = inner if key in _DATA else _tidied(inner)
    return tidy
