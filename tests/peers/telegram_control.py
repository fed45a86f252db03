"""The control endpoint of the stand-alone server: POST /control/<name> with a JSON object.

user     id, username, first_name               fail     method, status, times, retry_after
group    id, title, topics {"7": "Bugs"}        drop     method, times, after
send     user, text, chat, thread, reply_to     stall    method, times        release
state    everything, as JSON                    wait     sent (a count), timeout
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.peers.telegram_world import Json, User

if TYPE_CHECKING:
    from tests.peers.telegram_api import TelegramServer


async def control(server: TelegramServer, name: str, arguments: Json) -> Json:
    """Do one thing and answer with a JSON object."""
    match name:
        case "user":
            return server.user(**arguments).to_json()
        case "group":
            topics = {int(thread): title for thread, title in arguments.pop("topics", {}).items()}
            return server.group(**arguments, topics=topics).to_json()
        case "send":
            return _send(server, **arguments)
        case "fail" | "drop" | "stall" | "release":
            getattr(server, name)(**arguments)
            return {}
        case "wait":
            return await _wait(server, **arguments)
        case "state":
            return _state(server)
    return {"error": f"no control {name!r}"}


def _send(
    server: TelegramServer,
    user: int,
    text: str,
    chat: int | None = None,
    thread: int | None = None,
    reply_to: int | None = None,
) -> Json:
    private = server.chats[user]
    sender = User(server, user, private.username, private.name)
    where = None if chat is None else server.chats[chat]
    return sender.send(text, chat=where, thread=thread, reply_to=reply_to)


async def _wait(server: TelegramServer, sent: int, timeout: float = 10.0) -> Json:
    try:
        await server.wait_for(lambda: len(server.sent) >= sent, timeout)
    except TimeoutError:
        return {**_state(server), "error": f"only {len(server.sent)} messages after {timeout} s"}
    return _state(server)


def _state(server: TelegramServer) -> Json:
    return {
        "sent": [message.to_json() for message in server.sent],
        "pending": len(server.updates),
        "calls": Counter(method for method, _ in server.calls),
        "actions": server.actions,
        "commands": server.commands,
        "violations": server.violations,
    }
