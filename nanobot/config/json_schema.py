"""config.json as a JSON Schema, with which editors complete and check the file."""

from types import NoneType
from typing import Any, Literal, get_args, get_origin

from nanobot.config.schema import Config
from nanobot.config.section import Field, Section, fields_of

_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}
_LIMITS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "min_length": "minLength"}

Schema = dict[str, Any]


def config_schema() -> Schema:
    """The JSON Schema of config.json, with keys in camelCase."""
    parts: dict[str, Schema] = {}
    root = _object(Config, parts)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": parts}


def _object(section: type[Section], parts: dict[str, Schema]) -> Schema:
    properties = {key: _property(field, parts) for key, field in fields_of(section).items()}
    about = {"description": section.__doc__} if section.__doc__ else {}
    return {"title": section.__name__, "type": "object", **about, "properties": properties}


def _property(field: Field, parts: dict[str, Schema]) -> Schema:
    schema = _type(field.annotation, parts)
    limited = schema.get("anyOf", [schema])[0]
    limits = {_LIMITS[name]: bound for name, bound in (field.limits or {}).items()}
    limited.get("items", limited).update(limits)
    if field.description:
        schema["description"] = field.description
    if not isinstance(field.default, type | Section):
        schema["default"] = field.default
    return schema


def _type(kind: Any, parts: dict[str, Schema]) -> Schema:
    options = get_args(kind)
    if get_origin(kind) is Literal:
        return {"enum": list(options), "type": "string"}
    if get_origin(kind) is list:
        return {"items": _type(options[0], parts), "type": "array"}
    if get_origin(kind) is dict:
        return {"additionalProperties": _type(options[1], parts), "type": "object"}
    if options:
        return {"anyOf": [_type(option, parts) for option in options]}
    if issubclass(kind, Section):
        if kind.__name__ not in parts:
            parts[kind.__name__] = _object(kind, parts)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    return {"type": _TYPES[kind]}
