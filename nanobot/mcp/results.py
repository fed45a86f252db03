"""The result of an MCP tool call as a model can use it: text, and the images models take."""

from __future__ import annotations

import contextlib
import json
import re
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nanobot.agent.tools import ToolOutput
from nanobot.errors import ToolError
from nanobot.mcp.names import printable_text
from nanobot.messages import ImagePart
from nanobot.security.screen import rendered

if TYPE_CHECKING:
    import mcp_types as types

# How the images that models take begin in base64. What a server says of them may be wrong, and providers
# refuse every later request of a conversation with such an image.
_IMAGE_TYPES = {"iVBORw0KGgo": "png", "/9j/": "jpeg", "R0lGOD": "gif", "UklGR": "webp"}
_IMAGE_BASE64 = 7_000_000  # characters, about 5 MB of image: the limit of the strictest provider
_IMAGES = 8
_BASE64 = re.compile("[A-Za-z0-9+/]+={0,2}")
_LINK_CHARS = 500
_WRITTEN = 16  # structured contents that are kept as they were written
_SPACE = re.compile(r"[\s,:]*")
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def tool_output(result: types.CallToolResult, written: Iterable[str] = ()) -> ToolOutput:
    """Everything in the result. Raises ToolError with its text when the server calls it an error.

    `written`: how structured contents stood in newest messages, one of which may be that of the result.
    """
    images: list[ImagePart] = []
    texts = [_block(block, images) for block in result.content]
    if (structured := result.structured_content) is not None:
        raw = next((raw for raw in written if json.loads(raw) == structured), "")
        if not _says(texts, _parsed(raw) if raw else structured):
            texts.append(_readable(raw) if raw else json.dumps(structured, ensure_ascii=False, indent=1))
    text = rendered("\n".join(text for text in texts if text))
    if result.is_error:
        raise ToolError(text or "The tool failed and did not say why.")
    return ToolOutput(text or ("" if images else "(no output)"), tuple(images))


def written_content(message: str) -> str:
    """The structured content of a message as it is written there: the SDK gives 1.1 for 1.10, and of equal
    keys the last; "" without one. Raises ValueError, and RecursionError for what is nested too deep."""
    return _member(_member(message, "result"), "structuredContent")


class WrittenContents:
    """The newest structured contents of a server's messages as they were written, to be found again."""

    def __init__(self) -> None:
        self.newest: deque[str] = deque(maxlen=_WRITTEN)

    def note(self, message: bytes) -> None:
        """Take a message, or a line that may hold one."""
        if b'"structuredContent"' in message:
            with contextlib.suppress(ValueError, RecursionError):
                self.newest.appendleft(written_content(message.decode()))


def _member(text: str, key: str) -> str:
    """The text of the value of `key` in the JSON object `text`."""
    decode, found = json.JSONDecoder().raw_decode, ""
    place = text.find("{") + 1
    while place and text[place := _SPACE.match(text, place).end()] != "}":  # type: ignore[union-attr]
        name, place = decode(text, place)
        place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
        start, (_, place) = place, decode(text, place)
        found = text[start:place] if name == key else found
    return found


def _readable(raw: str) -> str:
    """JSON as written, but for letters that are escaped."""
    return _JSON_STRING.sub(lambda found: json.dumps(json.loads(found[0]), ensure_ascii=False), raw)


def _says(texts: list[str], structured: Any) -> bool:
    """Whether the texts are the structured content, as servers repeat it for clients that read only text."""
    said = [_parsed(text) for text in texts]
    if structured in said:
        return True
    if not isinstance(structured, dict) or len(structured) != 1:
        return False
    [inner] = structured.values()  # SDKs wrap what is no object: {"result": 5}, {"content": "text"}
    return inner in said or inner == said


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return text


def _object(pairs: list[tuple[str, Any]]) -> dict[Any, Any]:
    """An object that is unlike any without the same equal keys."""
    found: dict[Any, Any] = dict(pairs)
    return found if len(found) == len(pairs) else {**found, None: pairs}


def _block(block: types.ContentBlock, images: list[ImagePart]) -> str:
    """The text of one part of the result; an image that can be shown is added to `images`."""
    if block.type == "text":
        return block.text
    if block.type == "image":
        return _picture(block.mime_type, block.data, images)
    if block.type == "audio":
        return f"[audio, {_size(block.data)}, {block.mime_type}; it cannot be played here]"
    if block.type == "resource_link":
        about = f": {block.description}" if block.description else ""
        size = f", {block.size:,} bytes" if block.size else ""
        kind = f" ({block.mime_type or 'unknown type'}{size})"
        return printable_text(f"[link] {block.title or block.name} <{block.uri}>{kind}{about}", _LINK_CHARS)
    return _resource(block.resource, images)


def _resource(
    resource: types.TextResourceContents | types.BlobResourceContents, images: list[ImagePart]
) -> str:
    kind = resource.mime_type or "unknown type"
    where = printable_text(f"[resource <{resource.uri}> ({kind})", _LINK_CHARS)
    if hasattr(resource, "text"):
        return f"{where}]\n{resource.text}"
    if kind.startswith("image/"):
        return f"{where}] {_picture(kind, resource.blob, images)}".rstrip()
    return f"{where}, {_size(resource.blob)}, not text]"


def _picture(called: str, data: str, images: list[ImagePart]) -> str:
    data = "".join(data.rpartition(",")[2].split())  # some servers send a data: URL, or lines
    what = f"[image, {_size(data)}, {called}"
    kind = next((kind for begin, kind in _IMAGE_TYPES.items() if data.startswith(begin)), "")
    if not kind or not _BASE64.fullmatch(data) or len(data) % 4:
        return f"{what}; models do not read this type]"
    if len(data) > _IMAGE_BASE64 or len(images) == _IMAGES:
        return f"{what}; left out: too large or too many]"
    images.append(ImagePart(f"image/{kind}", data))
    return ""


def _size(data: str) -> str:
    """The size of what base64 `data` stands for."""
    return f"{len(data) * 3 // 4:,} bytes"
