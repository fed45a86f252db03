"""A conversation as a file: Markdown, one HTML page that needs nothing else, or JSON Lines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from html import escape

from nanobot.columns import minute
from nanobot.commands.command_context import Request
from nanobot.commands.conversations import current_conversation
from nanobot.errors import UsageError
from nanobot.paths import safe_name
from nanobot.security.files import PathPolicy
from nanobot.store.export import as_json, as_markdown
from nanobot.store.records import SessionInfo, StoredMessage
from nanobot.store.store import Store

FORMATS = ("md", "html", "jsonl")
_PAGE = 200  # messages that are in memory at once
_HTML = """<!DOCTYPE html>
<html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title><style>
body {{ max-width: 48em; margin: 2em auto; padding: 0 1em; font: 16px/1.5 sans-serif }}
pre {{ padding: .6em; background: #8882; overflow: auto }}
td, th {{ padding: .2em .6em; border: 1px solid #8886 }}
h2 {{ margin-top: 2em; font-size: 1em; opacity: .6 }}
</style></head><body>
<h1>{title}</h1>
<p>{about}</p>
"""


async def exported(store: Store, info: SessionInfo, form: str, after: int = 0) -> AsyncIterator[str]:
    """The pieces of a file in one of FORMATS, a line end between them: what was said after that message."""
    title = " ".join(info.title.split()) or info.key
    about = f"{minute(info.created_at)} to {minute(info.updated_at)}"
    if form == "html":
        yield _HTML.format(title=escape(title), about=escape(f"Session {info.key}, {about}."))
    elif form == "md":
        yield f"# {title}\n\nSession `{info.key}`, {about}.\n"
    while page := await store.conversations.messages(info.id, after, _PAGE):
        for piece in await asyncio.to_thread(_pieces, page, info, form):
            yield piece
        after, info = page[-1].seq, info._replace(title="")  # which the first message tells
    if form == "html":
        yield "</body></html>"


def _pieces(page: Sequence[StoredMessage], info: SessionInfo, form: str) -> list[str]:
    """A piece for each message. HTML in it is shown as text, and nothing is fetched from elsewhere."""
    if form == "jsonl":
        lines = [as_json(info.key, stored) for stored in page]
        lines[0] |= {"title": info.title} if info.title else {}
        return [json.dumps(line, ensure_ascii=False) for line in lines]
    texts = ["\n".join(as_markdown(stored)) for stored in page]
    if form == "md":
        return texts
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    return [str(markdown.render(text)) for text in texts]


async def export(request: Request) -> str:
    """Write the conversation into the workspace."""
    form = request.arguments.lower() or FORMATS[0]
    if form not in FORMATS:
        raise UsageError(f"{form[:20]!r} is no format. /export md, /export html or /export jsonl, please.")
    context, info = request.context, await current_conversation(request)
    text = "\n".join([piece async for piece in exported(context.store, info, form)])
    path = context.workspace / "exports" / f"{safe_name(info.title or info.key, limit=60)} @{info.id}.{form}"
    files = PathPolicy(context.workspace, restrict=True)
    try:
        await asyncio.to_thread(files.replace_file, path, f"{text}\n".encode("utf-8", "replace"))
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
    return f"Written to {path}"
