"""Telegram's HTML style, parsed strictly: https://core.telegram.org/bots/api#html-style

Stricter than the platform where it would silently drop formatting: nested quotations, code inside
or around other styles, unknown attributes and unusable links are refused here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

ENTITY_TYPES = {
    "b": "bold",
    "strong": "bold",
    "i": "italic",
    "em": "italic",
    "u": "underline",
    "ins": "underline",
    "s": "strikethrough",
    "strike": "strikethrough",
    "del": "strikethrough",
    "tg-spoiler": "spoiler",
    "span": "spoiler",
    "a": "text_link",
    "code": "code",
    "pre": "pre",
    "blockquote": "blockquote",
}
NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}
MAX_ENTITIES = 100
_TAG = re.compile(
    r"<(/?)([a-zA-Z0-9-]*)((?:\s+[^\s=<>\"']+(?:=(?:\"[^\"<]*\"|'[^'<]*'|[^\s\"'<>=]+))?)*)\s*>"
)
_ATTRIBUTE = re.compile(r"([^\s=<>\"']+)(?:=(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'<>=]+)))?")
_REFERENCE = re.compile(r"&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|(lt|gt|amp|quot));")
_URL = re.compile(r"(?:https?|tg|mailto):\S+", re.IGNORECASE)
_STYLES = {"bold", "italic", "underline", "strikethrough", "spoiler", "text_link"}


class MarkupError(ValueError):
    """What Telegram answers after `Bad Request: can't parse entities: `."""


@dataclass
class Entity:
    """A MessageEntity; offset and length in UTF-16 units."""

    type: str
    offset: int
    length: int = 0
    url: str = ""
    language: str = ""

    def to_json(self) -> dict[str, object]:
        fields = {"type": self.type, "offset": self.offset, "length": self.length}
        return {**fields, **{k: v for k, v in (("url", self.url), ("language", self.language)) if v}}


def utf16(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def parse_html(source: str) -> tuple[str, list[Entity]]:
    """Visible text (trimmed as Telegram trims it) and entities. Raises MarkupError."""
    parser = _Parser(source)
    parser.run()
    return _trim("".join(parser.out), parser.entities)


@dataclass
class _Parser:
    source: str
    out: list[str] = field(default_factory=list)
    length: int = 0
    entities: list[Entity] = field(default_factory=list)
    stack: list[tuple[str, Entity]] = field(default_factory=list)

    def run(self) -> None:
        position = 0
        while (start := self.source.find("<", position)) >= 0:
            self._text(self.source[position:start])
            position = self._tag(start)
        self._text(self.source[position:])
        if self.stack:
            raise MarkupError(f'Can\'t find end tag corresponding to start tag "{self.stack[-1][0]}"')

    def _text(self, raw: str) -> None:
        text = _REFERENCE.sub(_character, raw)
        self.out.append(text)
        self.length += utf16(text)

    def _match(self, start: int) -> re.Match[str]:
        match = _TAG.match(self.source, start)
        if match is None:
            offset = self._byte(start)
            word = re.match(r"</?([^\s>]*)", self.source[start:])
            name = word[1].lower() if word else ""
            if name not in ENTITY_TYPES:
                raise MarkupError(f'Unsupported start tag "{name}" at byte offset {offset}')
            raise MarkupError(f"Unclosed start tag at byte offset {offset}")
        return match

    def _tag(self, start: int) -> int:
        match = self._match(start)
        name = match[2].lower()
        if match[1]:
            self._close(name, start, match[3])
        elif name not in ENTITY_TYPES:
            raise MarkupError(f'Unsupported start tag "{name}" at byte offset {self._byte(start)}')
        else:
            self._open(name, _attributes(match[3], name))
        return match.end()

    def _open(self, name: str, attributes: dict[str, str]) -> None:
        entity = Entity(ENTITY_TYPES[name], self.length)
        _apply_attributes(name, attributes, entity, [tag for tag, _ in self.stack])
        outer = [other.type for _, other in self.stack]
        _check_nesting(entity.type, outer)
        self.stack.append((name, entity))

    def _close(self, name: str, start: int, rest: str) -> None:
        offset = self._byte(start)
        if not self.stack:
            raise MarkupError(f"Unexpected end tag at byte offset {offset}")
        expected, entity = self.stack.pop()
        if name != expected or rest.strip():
            raise MarkupError(
                f'Unmatched end tag at byte offset {offset}, expected "</{expected}>", found "</{name}>"'
            )
        entity.length = self.length - entity.offset
        if name == "code" and entity.language:
            self.stack[-1][1].language = entity.language  # <pre><code class="language-x">: one entity
        elif entity.length:
            self.entities.append(entity)

    def _byte(self, position: int) -> int:
        return len(self.source[:position].encode("utf-8", "surrogatepass"))


def _character(match: re.Match[str]) -> str:
    if match[3]:
        return NAMED[match[3]]
    code = int(match[1]) if match[1] else int(match[2], 16)
    return chr(code) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000 else match[0]


def _attributes(text: str, tag: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(text):
        name, value = match[1].lower(), match[2] or match[3] or match[4] or ""
        if "=" not in match[0] and (tag, name) != ("blockquote", "expandable"):
            raise MarkupError(f'Expected equal sign in declaration of an attribute of the tag "{tag}"')
        found[name] = _REFERENCE.sub(_character, value)
    return found


def _apply_attributes(tag: str, attributes: dict[str, str], entity: Entity, outer: list[str]) -> None:
    allowed = {"a": {"href"}, "span": {"class"}, "code": {"class"}, "blockquote": {"expandable"}}
    unknown = attributes.keys() - allowed.get(tag, set())
    if unknown:
        raise MarkupError(f'Unexpected attribute "{min(unknown)}" in the tag "{tag}"')
    if tag == "span" and attributes.get("class") != "tg-spoiler":
        raise MarkupError('Tag "span" must have class "tg-spoiler"')
    if tag == "a":
        entity.url = attributes.get("href", "")
        if not _URL.fullmatch(entity.url):
            raise MarkupError(f'Tag "a" has the unusable link "{entity.url}"')
    if tag == "code" and "class" in attributes:
        entity.language = attributes["class"].removeprefix("language-")
        if not attributes["class"].startswith("language-") or not entity.language or outer[-1:] != ["pre"]:
            raise MarkupError('Tag "code" may have a class "language-…" directly inside "pre" only')
    if tag == "blockquote" and "expandable" in attributes:
        entity.type = "expandable_blockquote"


def _check_nesting(kind: str, outer: list[str]) -> None:
    language_of_pre = kind == "code" and outer[-1:] == ["pre"]
    if "code" in outer or ("pre" in outer and not language_of_pre):
        raise MarkupError(f'Entity "{kind}" can\'t be inside code')
    if kind in ("code", "pre") and not language_of_pre and _STYLES.intersection(outer):
        raise MarkupError(f'Entity "{kind}" can\'t be inside other styles')
    if "blockquote" in kind and outer:
        raise MarkupError("Blockquotes can't be inside other entities")
    if kind == "text_link" and "text_link" in outer:
        raise MarkupError("Links can't be nested")


def _trim(text: str, entities: list[Entity]) -> tuple[str, list[Entity]]:
    left = utf16(text) - utf16(text.lstrip())
    trimmed = text.strip()
    end = utf16(trimmed)
    kept = []
    for entity in sorted(entities, key=lambda e: (e.offset, -e.length)):
        first = max(0, entity.offset - left)
        last = min(end, entity.offset + entity.length - left)
        if last > first:
            kept.append(Entity(entity.type, first, last - first, entity.url, entity.language))
    return trimmed, kept[:MAX_ENTITIES]
