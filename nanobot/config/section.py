"""The base of every part of the configuration."""

from typing import Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo


class Section(BaseModel):
    """Attributes are snake_case, keys are written in camelCase and read in both spellings.

    A field with `repr=False` is a secret: it stays out of `repr`, `str` and error texts. Validators are
    compiled when a section is first read, because most commands touch few of them.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, defer_build=True, hide_input_in_errors=True
    )


def key(default: Any, meaning: str, *, secret: bool = False, **limits: Any) -> Any:
    """Declares a key of a section. `limits` are those of pydantic's Field: ge, gt, le, min_length."""
    return Field(default=default, description=meaning, repr=not secret, **limits)


def part(section: type[Section], meaning: str) -> Any:
    """Declares a section within a section; its default is not validated, so nothing is compiled for it."""
    return Field(default_factory=section.model_construct, description=meaning)


def fields_of(kind: Any) -> dict[str, FieldInfo]:
    """The fields by their keys in camelCase if `kind` is a section, else none."""
    if not isinstance(kind, type) or not issubclass(kind, Section):
        return {}
    return {field.alias or name: field for name, field in kind.model_fields.items()}


def entry_of(kind: Any) -> Any:
    """The type of the values if `kind` is an object whose keys the owner chooses, else None."""
    return get_args(kind)[1] if get_origin(kind) is dict else None
