"""The result of an MCP tool call as a model can use it: text, and the images models take."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from nanobot.agent.tools.base import ToolOutput
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


def tool_output(result: types.CallToolResult) -> ToolOutput:
    """Everything in the result. Raises ToolError with its text when the server calls it an error."""
    images: list[ImagePart] = []
    texts = [_block(block, images) for block in result.content]
    if result.structured_content is not None and not _says(texts, result.structured_content):
        texts.append(json.dumps(result.structured_content, ensure_ascii=False, indent=1))
    text = rendered("\n".join(text for text in texts if text))
    if result.is_error:
        raise ToolError(text or "The tool failed and did not say why.")
    return ToolOutput(text or ("" if images else "(no output)"), tuple(images))


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
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


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
    text = getattr(resource, "text", None)
    if isinstance(text, str):
        return f"{where}]\n{text}"
    blob = str(getattr(resource, "blob", ""))
    if kind.startswith("image/"):
        return f"{where}] {_picture(kind, blob, images)}".rstrip()
    return f"{where}, {_size(blob)}, not text]"


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
