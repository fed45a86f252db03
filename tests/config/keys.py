"""All keys of the configuration, for tests that visit each of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nanobot.config.section import Section, entry_of, fields_of


def key_paths(section: type[Section], prefix: str = "") -> Iterator[str]:
    """The dotted path of every key, sections included; `*` stands for a name the owner chooses."""
    for key, field in fields_of(section).items():
        yield prefix + key
        entry = entry_of(field.annotation)
        below: Any = entry or field.annotation
        if fields_of(below):
            yield from key_paths(below, f"{prefix}{key}.{'*.' if entry else ''}")


def written(section: Section) -> dict[str, Any]:
    """The section as a JSON object, with keys in camelCase."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        return written(value) if isinstance(value, Section) else value

    own = {field.alias: getattr(section, name) for name, field in section.model_fields.items()}
    dumped: dict[str, Any] = plain(own | section.model_extra)
    return dumped
