"""Tool schemas for providers that know only a small subset of JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What Gemini documents for function declarations: https://ai.google.dev/api/caching#Schema
_KEPT = {
    *("type", "description", "title", "required", "pattern", "nullable", "minimum", "maximum"),
    *("minLength", "maxLength", "minItems", "maxItems"),
}


def plain_schema(schema: Any, definitions: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`schema` without the keywords Gemini refuses, admitting at least as much; references are resolved."""
    if not isinstance(schema, Mapping):
        return {}
    if definitions is None:
        definitions = {**(schema.get("definitions") or {}), **(schema.get("$defs") or {})}
    # Below a reference it is unknown, so that a recursive one ends.
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    below = {key: value for key, value in definitions.items() if key != name}
    choices = schema.get("anyOf") or schema.get("oneOf") or []
    shown = [choice for choice in choices if not isinstance(choice, Mapping) or choice.get("type") != "null"]

    plain: dict[str, Any] = {}
    for part in (definitions.get(name), *(schema.get("allOf") or ()), *(shown if len(shown) == 1 else ())):
        plain |= plain_schema(part, below)
    plain |= _own_keywords(schema)
    if len(shown) < len(choices):
        plain["nullable"] = True
    if len(shown) > 1:
        plain["anyOf"] = [plain_schema(choice, below) for choice in shown]
    if "items" in schema:
        plain["items"] = plain_schema(schema["items"], below)
    if isinstance(schema.get("properties"), Mapping):
        own = {key: plain_schema(value, below) for key, value in schema["properties"].items()}
        plain["properties"] = plain.get("properties", {}) | own
        if "required" in plain:
            plain["required"] = [key for key in plain["required"] if key in plain["properties"]]
    return plain


def _own_keywords(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What `schema` says itself and Gemini knows: one type, and of choices those that are strings."""
    kept = {key: value for key, value in schema.items() if key in _KEPT}
    kind = kept.get("type")
    if isinstance(kind, list):
        kept["type"] = next((name for name in kind if name != "null"), "string")
        if "null" in kind:
            kept["nullable"] = True
    listed = schema.get("enum") or [schema.get("const")]
    if all(isinstance(value, str) for value in listed):
        kept |= {"enum": list(listed), "type": "string"}
    return kept
