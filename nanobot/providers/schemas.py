"""Tool schemas for providers that know only a small subset of JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What Gemini documents for function declarations: https://ai.google.dev/api/caching#Schema
_KEPT = {
    "description",
    "enum",
    "maxItems",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "nullable",
    "pattern",
    "required",
    "title",
    "type",
}
_FORMATS = {"enum", "date-time", "float", "double", "int32", "int64"}


def plain_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """`schema` without the keywords Gemini refuses; references are replaced by what they refer to.

    The result admits at least everything `schema` does: arguments are checked against the full schema
    when the tool is called.
    """
    definitions = {**(schema.get("definitions") or {}), **(schema.get("$defs") or {})}
    return _Simplifier(definitions).plain(schema, frozenset())


class _Simplifier:
    """Walks a schema. `inside` are the references being followed, so that a recursive one ends."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions

    def plain(self, schema: Any, inside: frozenset[str]) -> dict[str, Any]:
        if not isinstance(schema, Mapping):
            return {}
        schema, inside = self._resolved(schema, inside)
        plain = {key: value for key, value in schema.items() if key in _KEPT}
        if schema.get("format") in _FORMATS:
            plain["format"] = schema["format"]
        plain |= _single_type(schema.get("type"))
        if isinstance(schema.get("const"), str):
            plain["enum"] = [schema["const"]]
        if not all(isinstance(value, str) for value in plain.get("enum", ())):
            del plain["enum"]  # only strings can be listed
        if "enum" in plain:
            plain["type"] = "string"
        plain |= self._children(schema, inside)
        if "properties" in plain and "required" in plain:
            plain["required"] = [name for name in plain["required"] if name in plain["properties"]]
        return plain

    def _children(self, schema: Mapping[str, Any], inside: frozenset[str]) -> dict[str, Any]:
        children: dict[str, Any] = {}
        if isinstance(schema.get("properties"), Mapping):
            children["properties"] = {
                name: self.plain(value, inside) for name, value in schema["properties"].items()
            }
        if "items" in schema:
            children["items"] = self.plain(schema["items"], inside)
        choices = schema.get("anyOf") or schema.get("oneOf") or []
        shown = [
            self.plain(choice, inside)
            for choice in choices
            if not (isinstance(choice, Mapping) and choice.get("type") == "null")
        ]
        if len(shown) < len(choices):
            children["nullable"] = True
        if len(shown) == 1:
            return children | shown[0]
        return children | {"anyOf": shown} if shown else children

    def _resolved(
        self, schema: Mapping[str, Any], inside: frozenset[str]
    ) -> tuple[Mapping[str, Any], frozenset[str]]:
        """`schema` with its `$ref` followed and its `allOf` folded in."""
        folded: dict[str, Any] = dict(schema)
        name = str(folded.pop("$ref", "")).rpartition("/")[2]
        parts = list(folded.pop("allOf", None) or ())
        if name and name not in inside:
            inside |= {name}
            parts.append(self._definitions.get(name))
        for part in parts:
            if isinstance(part, Mapping):
                resolved, inside = self._resolved(part, inside)
                folded = {**resolved, **folded}
        return folded, inside


def _single_type(kind: Any) -> dict[str, Any]:
    """`["string", "null"]` as Gemini writes it."""
    if not isinstance(kind, list):
        return {}
    kinds = [item for item in kind if item != "null"]
    return {"type": kinds[0] if kinds else "string", "nullable": len(kinds) < len(kind)}
