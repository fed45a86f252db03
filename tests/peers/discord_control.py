"""The control endpoint of the stand-alone server: POST /control/<name> with a JSON object.

user     username, name, id                     fail     call, status, times, code, retry_after
guild    name; answers its id and a channel's   drop     call, times, after
send     user, text, channel, mention           stall    call, times        release
state    everything, as JSON                    wait     sent (a count), timeout
cut      forget (the sessions, too)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.peers.discord_world import Json

if TYPE_CHECKING:
    from tests.peers.discord_api import DiscordServer


async def control(server: DiscordServer, name: str, arguments: Json) -> Json:
    """Do one thing and answer with a JSON object."""
    match name:
        case "user":
            user = server.user(**arguments)
            return {**user.to_json(), "dm": str(user.dm.id)}
        case "guild":
            guild = server.guild(**arguments)
            return {"id": str(guild.id), "channel": str(guild.channel().id)}
        case "send":
            return _send(server, **arguments)
        case "fail" | "drop" | "stall" | "release":
            getattr(server, name)(**arguments)
            return {}
        case "cut":
            server.gateway.cut(**arguments)
            return {}
        case "wait":
            return await _wait(server, **arguments)
        case "state":
            return _state(server)
    return {"error": f"no control {name!r}"}


def _send(server: DiscordServer, user: str, text: str, channel: str = "", *, mention: bool = False) -> Json:
    where = server.channels[int(channel)] if channel else None
    words = f"<@{server.bot.id}> {text}" if mention else text
    return server.users[int(user)].send(words, where)


async def _wait(server: DiscordServer, sent: int, timeout: float = 10.0) -> Json:
    try:
        await server.wait_for(lambda: len(server.sent) >= sent, timeout)
    except TimeoutError:
        return {**_state(server), "error": f"only {len(server.sent)} messages after {timeout} s"}
    return _state(server)


def _state(server: DiscordServer) -> Json:
    return {
        "sent": [sent.to_json() for sent in server.sent],
        "calls": server.counts,
        "typing": server.typing,
        "commands": server.commands,
        "identifies": len(server.gateway.identifies),
        "resumes": server.gateway.resumes,
        "violations": server.violations,
    }
