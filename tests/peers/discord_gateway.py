"""Discord's gateway, version 10: https://discord.com/developers/docs/events/gateway

One client identifies or resumes at a time here. What a session was sent is kept, so that a client that
comes back gets exactly what it missed, or, when a test wants that, some of it twice.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMessage, WSMsgType, web

from tests.peers.discord_world import (
    GUILD_MEMBERS,
    GUILD_PRESENCES,
    GUILDS,
    MESSAGE_CONTENT,
    Event,
    Json,
    World,
)

DISPATCH, HEARTBEAT, IDENTIFY, PRESENCE, RESUME = 0, 1, 2, 3, 6
RECONNECT, REQUEST_MEMBERS, INVALID_SESSION, HELLO, HEARTBEAT_ACK = 7, 8, 9, 10, 11
PRIVILEGED = GUILD_MEMBERS | GUILD_PRESENCES | MESSAGE_CONTENT
ALL_INTENTS = (1 << 17) - 1 | 1 << 20 | 1 << 21 | 1 << 24 | 1 << 25
_IDENTIFY_FIELDS = {"token", "properties", "compress", "large_threshold", "shard", "presence", "intents"}
_PAYLOAD_LIMIT = 4096
_NEVER_REPLAYED = {"READY", "RESUMED"}
_CONTENT = {"content": "", "embeds": [], "attachments": [], "components": []}


class Closed(Exception):
    """The server ends the connection. `code` is one of Discord's close codes."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass
class Session:
    """What Discord remembers of a client. `sent[n]` is the event with the number n + 1."""

    id: str
    intents: int
    sent: list[tuple[str, Json]] = field(default_factory=list)
    connection: Connection | None = None


class Connection:
    """One web socket."""

    def __init__(self, gateway: Gateway, request: web.Request) -> None:
        self.gateway = gateway
        self.session: Session | None = None
        self._request = request
        self._socket = web.WebSocketResponse()
        streams = request.query.get("compress") == "zlib-stream"
        self._deflate = zlib.compressobj() if streams else None
        self._outgoing: asyncio.Queue[Json] = asyncio.Queue()

    async def serve(self) -> web.WebSocketResponse:
        await self._socket.prepare(self._request)
        writer = asyncio.create_task(self._write())
        self.send(HELLO, {"heartbeat_interval": self.gateway.heartbeat_ms, "_trace": []})
        try:
            if self._request.query.get("v") != "10" or self._request.query.get("encoding") != "json":
                raise Closed(4012, "You sent an invalid version for the gateway.")
            async for message in self._socket:
                self._handle(_read(message))
        except Closed as closed:
            self.gateway.world.notify()
            await self._socket.close(code=closed.code, message=str(closed).encode())
        finally:
            writer.cancel()
            if self.session is not None and self.session.connection is self:
                self.session.connection = None
            self.gateway.connections.discard(self)
            self.gateway.world.notify()
        return self._socket

    def send(self, op: int, data: Any = None, number: int | None = None, name: str | None = None) -> None:
        self._outgoing.put_nowait({"op": op, "d": data, "s": number, "t": name})

    async def _write(self) -> None:
        while True:
            text = json.dumps(await self._outgoing.get())
            if self._deflate is None:
                await self._socket.send_str(text)
            else:
                data = self._deflate.compress(text.encode()) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
                await self._socket.send_bytes(data)

    async def close(self, code: int) -> None:
        await self._socket.close(code=code)

    def abort(self) -> None:
        """Cut the connection, as a failing network does."""
        if self._request.transport is not None:
            self._request.transport.abort()

    def _handle(self, payload: Json) -> None:
        op, data = payload.get("op"), payload.get("d")
        if op == HEARTBEAT:
            if data is not None and not isinstance(data, int):
                raise Closed(4002, "The sequence of a heartbeat is a number or null.")
            self.gateway.heartbeats += 1
            self.send(HEARTBEAT_ACK)
        elif op == IDENTIFY:
            self._identify(data)
        elif op == RESUME:
            self._resume(data)
        elif op not in (PRESENCE, REQUEST_MEMBERS, 4):
            raise Closed(4001, "You sent an invalid Gateway opcode or an invalid payload for an opcode.")
        elif self.session is None:
            raise Closed(4003, "You sent us a payload prior to identifying.")
        self.gateway.world.notify()

    def _identify(self, data: Any) -> None:
        gateway = self.gateway
        if self.session is not None:
            raise Closed(4005, "You sent more than one identify payload.")
        if not isinstance(data, dict) or data.keys() - _IDENTIFY_FIELDS:
            raise Closed(4002, "You sent an invalid payload to Discord.")
        if (
            not isinstance(data.get("properties"), dict)
            or {"os", "browser", "device"} - data["properties"].keys()
        ):
            raise Closed(4002, "properties names os, browser and device.")
        if data.get("token") != gateway.token:
            raise Closed(4004, "Authentication failed.")
        intents = data.get("intents")
        if not isinstance(intents, int) or intents & ~ALL_INTENTS:
            raise Closed(4013, "Invalid intent(s).")
        if intents & PRIVILEGED & ~gateway.privileged:
            raise Closed(4014, "Disallowed intent(s).")
        gateway.identifies.append(intents)
        self.session = Session(f"session-{len(gateway.identifies)}", intents, connection=self)
        gateway.sessions = {self.session.id: self.session}
        self._ready(self.session)

    def _ready(self, session: Session) -> None:
        world = self.gateway.world
        ready = {
            "v": 10,
            "user": {**world.bot.to_json(), "verified": True, "mfa_enabled": False, "flags": 0},
            "guilds": [{"id": str(id), "unavailable": True} for id in world.guilds],
            "session_id": session.id,
            "resume_gateway_url": world.url.replace("http", "ws", 1) + "/gw",
            "application": {"id": str(world.bot.id), "flags": 0},
            "private_channels": [],
        }
        self.gateway.dispatch(session, Event("READY", ready))
        for guild in world.guilds.values():
            created = {**guild.to_json(), "unavailable": False}
            self.gateway.dispatch(session, Event("GUILD_CREATE", created, GUILDS))

    def _resume(self, data: Any) -> None:
        gateway = self.gateway
        if not isinstance(data, dict) or data.keys() != {"token", "session_id", "seq"}:
            raise Closed(4002, "You sent an invalid payload to Discord.")
        if data["token"] != gateway.token:
            raise Closed(4004, "Authentication failed.")
        session = gateway.sessions.get(data["session_id"])
        if session is None:
            self.send(INVALID_SESSION, False)
            return
        if not isinstance(data["seq"], int) or data["seq"] > len(session.sent):
            raise Closed(4007, "The sequence sent when resuming the session was invalid.")
        if session.connection is not None:
            session.connection.abort()
        self.session, session.connection = session, self
        gateway.resumes += 1
        kept = [(n, *sent) for n, sent in enumerate(session.sent, 1) if sent[0] not in _NEVER_REPLAYED]
        seen = [event for event in kept if event[0] <= data["seq"]]
        for number, name, body in kept[max(0, len(seen) - gateway.repeat_on_resume) :]:
            self.send(DISPATCH, body, number, name)
        gateway.dispatch(session, Event("RESUMED", {"_trace": []}))


class Gateway:
    """All connections, and what a test may do to them.

    `privileged` are the privileged intents that are switched on in the developer portal.
    `repeat_on_resume`: how many events that the client has seen are sent again when it resumes.
    """

    def __init__(self, world: World, token: str) -> None:
        self.world = world
        self.token = token
        self.privileged = PRIVILEGED
        self.heartbeat_ms = 41_250
        self.repeat_on_resume = 0
        self.sessions: dict[str, Session] = {}
        self.connections: set[Connection] = set()
        self.identifies: list[int] = []
        self.resumes = 0
        self.heartbeats = 0
        world.listeners.append(self._publish)

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        connection = Connection(self, request)
        self.connections.add(connection)
        return await connection.serve()

    def dispatch(self, session: Session, event: Event) -> None:
        """Send an event, or keep it for a session whose client is away."""
        if event.intent & ~session.intents:
            return
        hidden = not event.personal and not session.intents & MESSAGE_CONTENT
        data = {**event.data, **_CONTENT} if hidden else dict(event.data)
        session.sent.append((event.name, data))
        if session.connection is not None:
            session.connection.send(DISPATCH, data, len(session.sent), event.name)

    def _publish(self, event: Event) -> None:
        for session in self.sessions.values():
            self.dispatch(session, event)

    # Faults

    def cut(self, *, forget: bool = False) -> None:
        """Cut all sockets. With `forget` the sessions are gone, too: who resumes has to start anew."""
        if forget:
            self.sessions = {}
        for connection in list(self.connections):
            connection.abort()

    async def close(self, code: int) -> None:
        """Close all sockets with one of Discord's codes."""
        for connection in list(self.connections):
            await connection.close(code)

    def tell(self, op: int, data: Any = None) -> None:
        """Send something that is no event: RECONNECT, HEARTBEAT, or INVALID_SESSION with a boolean."""
        if op == INVALID_SESSION and not data:
            self.sessions = {}
        for connection in list(self.connections):
            connection.send(op, data)


def _read(message: WSMessage) -> Json:
    if message.type is not WSMsgType.TEXT or len(message.data.encode()) > _PAYLOAD_LIMIT:
        raise Closed(4002, "You sent an invalid payload to Discord.")
    try:
        payload = json.loads(message.data)
    except ValueError as error:
        raise Closed(4002, "You sent an invalid payload to Discord.") from error
    if not isinstance(payload, dict):
        raise Closed(4002, "You sent an invalid payload to Discord.")
    return payload
