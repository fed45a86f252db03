"""The data every room speaks, all of it frozen: messages and their parts, usage, inbound and outbound."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, Literal, NamedTuple

Role = Literal["user", "assistant", "tool"]
Outcome = Literal["ok", "error", "cancelled", "interrupted"]
# The result of a call that was running when its worker died.
INTERRUPTED = "Interrupted before its result was recorded; whether it took effect is unknown."
# The result of a call that was running when its turn was stopped.
STOPPED = "Stopped before it finished."
# What the history says of a turn by how it ended, so that its question is not taken for an open one.
_UNFINISHED = "[nanobot: this turn {} before it was finished. Do not go on with it unless you are asked to.]"
UNFINISHED = {
    "cancelled": _UNFINISHED.format("was stopped"),
    "error": _UNFINISHED.format("failed"),
    "interrupted": _UNFINISHED.format("was cut off"),
    "limit": "[nanobot: this turn met a limit before it was finished.]",
}

StopReason = Literal["done", "limit", "cancelled", "error"]
# Who set a message off: somebody who wrote it, a job, the heartbeat, a turn that spawned, a subagent's end.
Source = Literal["person", "schedule", "heartbeat", "order", "report"]
# owner: typed at the terminal, or by somebody the owner has listed. guest: admitted because everybody is.
# foreign: written by nobody who was admitted, so it is data and decides nothing (design 3.6).
Trust = Literal["owner", "guest", "foreign"]
# Where words come from. Only those of the author of a message may instruct.
Origin = Literal["author", "quote", "forward", "file", "page", "mail", "mcp", "tool"]


class TextPart(NamedTuple):
    """Words somebody wrote. `origin` other than `author`: whoever sent the message has not written them."""

    text: str
    origin: Origin = "author"


class ContextPart(NamedTuple):
    """A note of nanobot's in a user message; `recalled`: some of it may be the words of others."""

    text: str
    recalled: bool = False


class ImagePart(NamedTuple):
    """An image, base64 without the data-URL prefix. `media_type` is for example `image/png`."""

    media_type: str
    data: str


class ReasoningPart(NamedTuple):
    """A model's thinking. `signature` and `redacted` are replayed byte for byte, to `provider` only."""

    text: str
    signature: str = ""
    redacted: str = ""
    provider: str = ""


class ToolCall(NamedTuple):
    """A model's request to run a tool. `extra` is the provider's, and sent back with the call.

    `malformed` is the argument text that was no JSON object; such a call is never run.
    """

    id: str
    name: str
    arguments: Mapping[str, Any]
    malformed: str = ""
    extra: Mapping[str, Any] = {}


class ToolResult(NamedTuple):
    """What a tool call came to. Every ToolCall in a valid history has exactly one. `origin`: whose words."""

    call_id: str
    name: str
    content: str
    outcome: Outcome = "ok"
    images: tuple[ImagePart, ...] = ()
    origin: Origin = "tool"


Part = TextPart | ContextPart | ImagePart | ReasoningPart | ToolCall | ToolResult


class Message(NamedTuple):
    """One entry of a conversation. Tool results travel in messages of role `tool`, one result each."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The words of its author, without what they quote or forward, context notes and reasoning."""
        own = (part for part in self.parts if isinstance(part, TextPart) and part.origin == "author")
        return "".join(part.text for part in own)

    @property
    def all_text(self) -> str:
        """The same with what they quote or forward: what can be found again."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple([part for part in self.parts if isinstance(part, ToolCall)])

    @property
    def tool_results(self) -> tuple[ToolResult, ...]:
        return tuple([part for part in self.parts if isinstance(part, ToolResult)])

    @staticmethod
    def user(text: str, *more: Part) -> Message:
        return Message("user", (TextPart(text), *more))

    @staticmethod
    def assistant(text: str, *more: Part) -> Message:
        return Message("assistant", (*((TextPart(text),) if text else ()), *more))


def unanswered_calls(messages: Sequence[Message]) -> list[ToolCall]:
    """The tool calls without a result, in order."""
    answered = {result.call_id for message in messages for result in message.tool_results}
    return [call for message in messages for call in message.tool_calls if call.id not in answered]


class ToolDefinition(NamedTuple):
    """A tool as a model sees it. `parameters` is a JSON Schema object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or more model calls. `input_tokens` includes the cached ones.

    `cost` is in US dollars, 0.0 when the provider does not say it.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost: float = 0.0

    @property
    def total(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(*map(operator.add, astuple(self), astuple(other)))


class ContextUse(NamedTuple):
    """Tokens of a turn's last request: as the provider counted, as estimated, what fits. 0 is unknown."""

    tokens: int = 0
    estimated: int = 0
    window: int = 0


NOT_COUNTED = ContextUse()


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that came with a message or goes out with one; `origin`: whose it is.

    `path` is local and absolute; empty while the file is still on its platform, where `ref` names it.
    `error` says why it could not be fetched.
    """

    path: str
    name: str
    media_type: str = "application/octet-stream"
    ref: str = ""
    error: str = ""
    origin: Origin = "author"


@dataclass(frozen=True, slots=True)
class Quoted:
    """Words in a message that its sender did not write. `author` is for people; `own`: the bot wrote them.

    `reply`: what it answers, `quote`: a part of that, `preview`: the beginning of a page it links.
    """

    kind: Literal["reply", "quote", "forward", "preview"]
    text: str
    author: str = ""
    own: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """A session and the chat it is held in. `metadata` is the platform's (thread, reply target)."""

    session_key: str
    channel: str
    chat_id: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    is_group: bool = False


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """A message on its way to a turn.

    The pair (channel, external_id) is accepted once. `metadata` is the platform's alone (thread, reply
    target), `sent_at` Unix seconds. `is_group`: several people write in this chat. `reply_to` is who is told
    how the turn ended, when that is another session; `deliver`: what comes of it goes to the chat. `family`
    is the turn whose model calls it shares. `owner` is the process that alone may run it; empty: any gateway.
    `sender_name` proves nothing. `folder` is where the owner's terminal stands. `joined_ids` are the external
    ids of further messages that are part of this one.
    """

    channel: str
    chat_id: str
    sender_id: str
    text: str
    external_id: str
    session_key: str
    sent_at: float = 0.0
    attachments: tuple[Attachment, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    is_group: bool = False
    source: Source = "person"
    trust: Trust = "owner"
    quoted: tuple[Quoted, ...] = ()
    reply_to: Address | None = None
    deliver: bool = True
    family: int | None = None
    owner: str = ""
    sender_name: str = ""
    folder: str = ""
    joined_ids: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """What it may be as a slash command: its text, or "" when it cannot be one."""
        may_be = self.source == "person" and not self.attachments and parse_command(self.text)
        return self.text if may_be else ""

    @property
    def is_stop(self) -> bool:
        """Whether it is `/stop`, which acts at once."""
        return parse_command(self.command.lower()) in (("stop", ""), ("stop", "now"))

    @property
    def approval(self) -> tuple[str, bool] | None:
        """Code and whether yes, of the owner's `/approve CODE` or `/deny CODE`, which act at once."""
        name, code = parse_command(self.command) or ("", "")
        is_answer = name in ("approve", "deny") and self.trust == "owner" and len(code.split()) == 1
        return (code.upper(), name == "approve") if is_answer else None


def parse_command(text: str) -> tuple[str, str] | None:
    """Name and arguments when `text` is written like a slash command, known or not; /etc/hosts is none."""
    match = re.fullmatch(r"/([A-Za-z][\w-]*)(?:@\w+)?(?:\s+(.*))?", text.strip(), re.DOTALL)
    return (match[1].lower(), (match[2] or "").strip()) if match else None


class TurnContext(NamedTuple):
    """The turn a tool runs in, and the message that began it. Tools read it with `current_turn()`.

    `turn_id` is its name in ids that others see, `number` its row. `supports_images`: the model sees.
    """

    turn_id: str
    number: int
    inbound: InboundMessage
    supports_images: bool = False

    @property
    def session_key(self) -> str:
        return self.inbound.session_key

    @property
    def family(self) -> int:
        """The turn whose model calls it shares: its own, when nobody has spawned it."""
        return self.inbound.family or self.number


@dataclass(frozen=True, slots=True)
class OutboundMessage:
    """A message on its way to a chat. `id` is stable over retries: channels use it as idempotency key."""

    id: str
    channel: str
    chat_id: str
    text: str
    kind: Literal["reply", "message", "progress"] = "reply"
    attachments: tuple[Attachment, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


_PART_TYPES: dict[str, type[Part]] = {
    "text": TextPart,
    "context": ContextPart,
    "image": ImagePart,
    "reasoning": ReasoningPart,
    "tool_call": ToolCall,
    "tool_result": ToolResult,
}
_PART_NAMES = {cls: name for name, cls in _PART_TYPES.items()}


def message_to_json(message: Message) -> dict[str, Any]:
    """A JSON-ready dict: `{"role": …, "parts": [{"type": …, …}]}`; empty fields are left out."""
    return {"role": message.role, "parts": [_part_to_json(part) for part in message.parts]}


def message_from_json(data: Mapping[str, Any]) -> Message:
    """Inverse of `message_to_json`; unknown fields of newer versions are ignored."""
    return Message(data["role"], tuple([_part_from_json(part) for part in data["parts"]]))


def _part_to_json(part: Part) -> dict[str, Any]:
    defaults = part._field_defaults
    said = {name: value for name, value in part._asdict().items() if value or name not in defaults}
    if isinstance(part, ToolResult) and part.images:
        said["images"] = [_part_to_json(image) for image in part.images]
    return {"type": _PART_NAMES[type(part)], **said}


def known_fields(cls: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """What `data` says of the fields of a class; what a newer version has added is left out."""
    return {name: value for name, value in data.items() if name in cls.__annotations__}


def _part_from_json(data: Mapping[str, Any]) -> Part:
    cls = _PART_TYPES[data["type"]]
    known = {name: data[name] for name in cls._fields if name in data}
    if "images" in known:
        known["images"] = tuple(_part_from_json(image) for image in known["images"])
    return cls(**known)
