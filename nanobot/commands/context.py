"""`/context` and `/compact`: what is in the window of a conversation, and making it smaller."""

from __future__ import annotations

from collections import Counter

from nanobot.agent.loop import Turn
from nanobot.agent.window import BYTES_PER_TOKEN, size_of
from nanobot.columns import table
from nanobot.messages import ContextPart, ImagePart, Message, ReasoningPart, TextPart, ToolCall, ToolResult

_NAMES = {
    TextPart: {"user": "your messages", "assistant": "answers"},
    ReasoningPart: {"assistant": "reasoning"},
    ToolCall: {"assistant": "tool calls"},
    ToolResult: {"tool": "tool results"},
}


_NOTES = "notes (clock, chat, files)"
_RECALL = "[From memory"  # how recalled memories begin, at the end of a note


async def describe_context(turn: Turn) -> str:
    """Tokens by part, their share of the model's window, and what the provider counted last."""
    conversation = turn.conversation
    use = conversation.use()
    sizes = Counter({name: len(text.encode()) for name, text in turn.system})
    if definitions := turn.tools.definitions:
        sizes[f"tool definitions ({len(definitions)})"] = turn.tools.size
    shown = conversation.shown()
    about = f"{len(shown)} messages are shown to the model."
    if conversation.window.summary:
        sizes["summary"], shown = size_of(shown[:1]), shown[1:]
        start = conversation.window.start
        about = f"{len(shown)} messages are shown to the model; a summary stands for those up to {start}."
    for message in shown:
        sizes.update(sizes_by_part(message))
    rows = {name: size // BYTES_PER_TOKEN for name, size in sizes.items() if size}
    shares = [(f"  {name}", f"{count:,}", f"{count / use.window:.1%}") for name, count in rows.items()]
    lines = [
        f"About {use.estimated:,} of {use.window:,} tokens ({use.estimated / use.window:.1%}), {turn.model}",
        *table(shares, right=[1, 2]),
        about,
    ]
    if counted := conversation.window.used.tokens:
        lines.append(f"The provider counted {counted:,} tokens in the last request.")
    return "\n".join(lines)


def sizes_by_part(message: Message) -> Counter[str]:
    """Bytes of a message by what they are."""
    sizes: Counter[str] = Counter()
    for part in message.parts:
        if isinstance(part, ImagePart):
            sizes["images"] += size_of([Message("user", (part,))])
        elif isinstance(part, ToolResult) and part.images:
            images = size_of([Message("user", part.images)])
            sizes.update({"images": images, "tool results": size_of([Message("tool", (part,))]) - images})
        elif isinstance(part, ContextPart):
            note, begin, recalled = part.text.partition(_RECALL)
            sizes.update({"recall": len((begin + recalled).encode()), _NOTES: len(note.encode())})
        else:
            sizes[_NAMES[type(part)].get(message.role, "other")] += size_of([Message(message.role, (part,))])
    return sizes


async def compact(turn: Turn) -> str:
    """Let a summary stand for everything but the newest turn, and say what that gained."""
    conversation = turn.conversation
    before, start = conversation.use().estimated, conversation.window.start
    await conversation.compact()
    if conversation.window.start == start:
        return f"There is nothing to compact: about {before:,} tokens, and no turn before the newest one."
    after = conversation.use()
    return (
        f"Compacted: about {before:,} → {after.estimated:,} of {after.window:,} tokens. A summary stands for "
        f"the messages up to {conversation.window.start}; all of them stay stored."
    )
