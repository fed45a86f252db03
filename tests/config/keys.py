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
