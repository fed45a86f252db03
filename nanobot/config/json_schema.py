"""config.json as a JSON Schema, with which editors complete and check the file."""

import inspect
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from nanobot.config.schema import Config
from nanobot.config.section import Field, Section, fields_of

_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}
_LIMITS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "min_length": "minLength"}

Schema = dict[str, Any]


def config_schema() -> Schema:
    """The JSON Schema of config.json, with keys in camelCase."""
    definitions: dict[str, Schema] = {}
    root = _object(Config, definitions)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {**head, "$defs": dict(sorted(definitions.items())), **root}


def _object(section: type[Section], definitions: dict[str, Schema]) -> Schema:
    properties = {field.alias: _property(field, definitions) for field in fields_of(section).values()}
    schema: Schema = {"properties": properties, "title": section.__name__, "type": "object"}
    if "extra_kind" in vars(section):
        schema["additionalProperties"] = True
    if section.__doc__ and "__doc__" in vars(section):
        schema["description"] = inspect.cleandoc(section.__doc__)
    return dict(sorted(schema.items()))


def _property(field: Field, definitions: dict[str, Schema]) -> Schema:
    schema = _type(field.annotation, definitions)
    limits = {_LIMITS[limit]: bound for limit, bound in (field.limits or {}).items()}
    if limits and "anyOf" in schema:
        schema["anyOf"][0] = limits | schema["anyOf"][0]
    else:
        schema |= limits
    if field.description:
        schema["description"] = field.description
    if isinstance(field.default, Section):
        schema["default"] = field.default.model_dump(by_alias=True)
    elif not isinstance(field.default, type):
        schema |= {"default": field.default, "title": field.alias.title()}
    return dict(sorted(schema.items()))


def _type(kind: Any, definitions: dict[str, Schema]) -> Schema:
    options = get_args(kind)
    if get_origin(kind) is Literal:
        return {"enum": list(options), "type": "string"}
    if get_origin(kind) is list:
        return {"items": _type(options[0], definitions), "type": "array"}
    if get_origin(kind) is dict:
        return {"additionalProperties": _type(options[1], definitions), "type": "object"}
    if options:
        return {"anyOf": [_type(option, definitions) for option in options]}
    if issubclass(kind, Section):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = _object(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    return {"type": _TYPES[kind]}
