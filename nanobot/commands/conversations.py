"""`/new`, `/sessions`, `/resume`, `/fork`, `/rewind`, `/rename`: conversations as things of their own."""

from __future__ import annotations

from collections.abc import Sequence

from nanobot.columns import minute, shortened, table
from nanobot.commands.command_context import Request
from nanobot.errors import UsageError
from nanobot.store.records import SessionInfo, StoredMessage
from nanobot.store.store import Store

_LISTED = 10
_LONGEST_TITLE = 100  # characters
_LISTED_TITLE = 44  # characters, so that a line fits a terminal
_LAST_WORDS = 2  # messages that are repeated when a conversation goes on
_BEGINNING = 300  # characters of each
_REWINDABLE = 500  # messages back
_LISTED_WORDS = 70  # characters of a message that can be rewound to


async def new(request: Request) -> str:
    """A conversation of its own."""
    before = await request.context.store.sessions.get(request.session_key)
    await request.context.store.conversations.begin(request.session_key)
    if before is None or not before.messages:
        return "This is a new conversation."
    return f"A new conversation begins. /resume @{before.id} goes back to the earlier one."


async def sessions(request: Request) -> str:
    """The newest ones, numbered."""
    listed = await request.context.list_sessions(_LISTED)
    current = await request.context.store.sessions.get(request.session_key)
    shown = list_of_sessions(listed, current.id if current else 0)
    return request.columns(shown) if shown else "There are no conversations yet."


def list_of_sessions(listed: Sequence[SessionInfo], current: int = 0) -> str:
    """A line for each, numbered from 1: id, session, messages, when it was used last, title."""
    rows = []
    for number, info in enumerate(listed, 1):
        place = f"{'*' if info.id == current else ' '}{number:>3}", f"@{info.id}", info.key
        said = str(info.messages), minute(info.updated_at), _beginning(info.title, _LISTED_TITLE)
        rows.append((*place, *said))
    return "\n".join(table(rows, right=[3]))


async def resume(request: Request) -> str:
    """Go on with another one; without a name, the list."""
    context = request.context
    if not request.arguments:
        return f"{await sessions(request)}\n/resume NUMBER, /resume @ID or /resume TITLE goes on with one."
    found = await context.find_session(request.arguments, _LISTED)
    await context.resume(request.session_key, found)
    return await going_on(context.store, found)


async def going_on(store: Store, conversation: SessionInfo) -> str:
    """Which conversation goes on, and how it ended."""
    title = f" ({conversation.title})" if conversation.title else ""
    which = f"@{conversation.id}{title}, {messages_in_words(conversation.messages)}."
    return f"Going on with {which}\n{await last_words(store, conversation)}".rstrip()


async def last_words(store: Store, conversation: SessionInfo) -> str:
    """How a conversation ended, in short."""
    last = await store.conversations.latest(conversation.id, _LAST_WORDS)
    return "\n".join(f"{one.message.role}: {_beginning(one.message.text, _BEGINNING)}" for one in last)


async def fork(request: Request) -> str:
    """Go on in a copy."""
    current = await current_conversation(request)
    last = await request.context.store.conversations.latest(current.id, 1)
    if not last:
        raise UsageError("There is nothing to fork yet: say something first.")
    await request.context.store.conversations.fork(current.id, last[-1].seq)
    return f"Going on in a copy. /resume @{current.id} goes back to the original."


async def rewind(request: Request) -> str:
    """Go on from before a message of the owner's; without a number, these are listed."""
    conversations = request.context.store.conversations
    current = await current_conversation(request)
    own = await own_messages(request.context.store, current)
    if not own:
        raise UsageError("There is nothing to go back to yet: say something first.")
    if not request.arguments:
        rows = [(f"{number:>3}", beginning(one)) for number, one in enumerate(own[:_LISTED], 1)]
        shown = request.columns("\n".join(table(rows)))
        return f"{shown}\n/rewind NUMBER goes back to before that message of yours."
    if not 0 < request.number <= len(own):
        raise UsageError(
            f"There is no message {request.arguments[:9]}. /rewind lists yours, the newest as 1."
        )
    chosen = own[request.number - 1]
    await conversations.fork(current.id, chosen.seq - 1)
    return f"Back to before: {beginning(chosen)}\n/resume @{current.id} goes back to all that followed."


async def own_messages(store: Store, conversation: SessionInfo) -> list[StoredMessage]:
    """What people wrote in a conversation, the newest first."""
    said = await store.conversations.latest(conversation.id, _REWINDABLE)
    return [one for one in reversed(said) if one.message.role == "user" and one.message.text]


def beginning(stored: StoredMessage) -> str:
    """How a message begins, in a line."""
    return _beginning(stored.message.text, _LISTED_WORDS)


async def rename(request: Request) -> str:
    """Another title."""
    title = checked_title(request.arguments)
    await request.context.store.conversations.rename((await current_conversation(request)).id, title)
    return f"This conversation is now called {title}."


def checked_title(text: str) -> str:
    """`text` as the title of a conversation. Raises UsageError."""
    title = " ".join(text.split())
    if not title or not title.isprintable() or len(title) > _LONGEST_TITLE:
        raise UsageError(f"A title is 1 to {_LONGEST_TITLE} printable characters long: /rename TITLE.")
    return title


def messages_in_words(count: int) -> str:
    """`1 message`, `2 messages`."""
    return f"{count} {'message' if count == 1 else 'messages'}"


async def current_conversation(request: Request) -> SessionInfo:
    """The one that goes on here. Raises UsageError."""
    current = await request.context.store.sessions.get(request.session_key)
    if current is None:
        raise UsageError("There is no conversation yet: say something first.")
    return current


def _beginning(text: str, limit: int) -> str:
    return shortened(" ".join(text.split()), limit)
