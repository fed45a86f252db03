"""Keeping what a model sees of a conversation within its window.

The record is never changed: a `Window` says what is shown of it. When that grows too long, long tool results
are shown in short, then whole turns are replaced by a summary, at last the first steps of the running turn.
Cuts are deep and rare, so that requests begin with the same words between them.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import pairwise, takewhile
from typing import NamedTuple

from nanobot.agent.tools import ToolOutput
from nanobot.errors import NanobotError
from nanobot.messages import (
    ContextPart,
    ContextUse,
    ImagePart,
    InboundMessage,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from nanobot.store.records import Claim, OpenSession, StoredMessage, Window
from nanobot.store.store import Store

log = logging.getLogger(__name__)

BYTES_PER_TOKEN = 4  # of UTF-8: right for English, and careful with scripts that take more tokens
_SHORT_RESULT = 1_200  # characters of a shortened tool result
_SUMMARY_BYTES = 6_000
SPARE_MESSAGES = 100  # read beyond the limit, so that one long unfinished turn is seen whole
_ENVELOPE = 20  # bytes that a message costs beside its words
_IMAGE_BYTES = 6_000  # an image costs as much as so much text
_SHORTENED = (ImagePart, ToolResult)
_NOTE = """[Note of nanobot, no request: the conversation up to message {window.start} in short. All of it
is kept: memory_search finds words in it, read_file with the path record:NUMBER shows one message.]
{window.summary}
[End of the note]
"""

# Puts messages of a session into words that stand for them from then on; raises NanobotError when it cannot.
Summarise = Callable[[str, Sequence[StoredMessage]], Awaitable[str]]


class Limits(NamedTuple):
    """Tokens of the model's `window`, of which `answer` are for its reply; `fixed` bytes of prompt and tools.

    `messages` is how many may stand before the running turn; a small chat model is shown `only_words`.
    """

    window: int
    answer: int
    fixed: int
    messages: int
    only_words: bool = False


class _View(NamedTuple):
    """What a window shows: messages of a request, their bytes, and how many are of earlier turns."""

    messages: list[Message]
    size: int
    earlier: int


class Conversation:
    """A session: what its model sees of it, and the record that the running turn writes.

    `entries` are its newest messages, as stored; those of the running turn join them when they are stored.
    Everything that reads or writes raises StorageError, and TurnTakenOver when the claim is lost.
    """

    def __init__(
        self, store: Store, claim: Claim, limits: Limits, summarise: Summarise | None, opened: OpenSession
    ) -> None:
        self.window = opened.window
        self.entries = opened.messages
        self._store = store
        self._claim = claim
        self._limits = limits
        self._summarise = summarise
        self._longest_result = max(_SHORT_RESULT, limits.window)  # characters: a quarter of the window
        self._size = _room(limits, opened.window.used)
        # Up to here a model has seen all images; those of a turn that failed at once it has not.
        earlier = [entry for entry in self.entries if entry.turn_id != claim.turn_id]
        seen = [it.seq for it in earlier if it.message.role != "user" or it.turn_id != earlier[-1].turn_id]
        self._seen = max(seen, default=0)
        self._made: dict[tuple[int, bool], tuple[Message, int]] = {}  # by number and whether in short
        self._last_view = _View([], 0, 0)
        self._viewed: tuple[Window, int] | None = None  # what that was made of: window, number of entries

    @property
    def messages(self) -> list[Message]:
        """The newest messages as they were said."""
        return [entry.message for entry in self.entries]

    # -- the record of the running turn

    async def append(self, *messages: Message) -> None:
        """Store messages of the running turn, all or none."""
        self.entries += await self._store.turns.append(self._claim, *messages)

    async def intend(self, call_id: str) -> bool:
        """Note that a tool call is about to run; False when it was before a worker died."""
        return await self._store.turns.record_intent(self._claim, call_id)

    async def take_waiting(self, answered: InboundMessage) -> None:
        """Let messages that wait in the session join the one that the running turn answers, in order."""
        waiting = await self._store.inbox.waiting(self._claim.session_key, answered.owner)
        joining = takewhile(lambda entry: _joins(answered, entry[1]), waiting)
        if taken := {inbox_id: Message.user(inbound.text) for inbox_id, inbound in joining}:
            self.entries += await self._store.turns.steer(self._claim, taken)

    # -- what the model sees

    def shown(self) -> list[Message]:
        """The messages of a request: the summary, then what has not left the window."""
        return self._view(self.window).messages

    def _view(self, window: Window) -> _View:
        """What the running turn was asked never leaves a window; a result leaves with its call."""
        if self._viewed == (window, len(self.entries)):
            return self._last_view
        note = Message("user", (ContextPart(_NOTE.format(window=window)),))
        messages = [note] if window.summary else []
        size, earlier, calls = size_of(messages), 0, set[str]()
        for entry in self.entries:
            role, is_earlier = entry.message.role, entry.turn_id != self._claim.turn_id
            if entry.seq <= window.start and (is_earlier or role != "user"):
                continue
            if role == "assistant":
                calls.update([call.id for call in entry.message.tool_calls])
            elif role == "tool" and any(result.call_id not in calls for result in entry.message.tool_results):
                continue
            message, bytes_ = self._shown(entry, entry.seq <= window.shortened)
            if message.parts:
                messages.append(message)
                size += bytes_
                earlier += is_earlier
        self._viewed, self._last_view = (window, len(self.entries)), _View(messages, size, earlier)
        return self._last_view

    def _shown(self, entry: StoredMessage, short: bool) -> tuple[Message, int]:
        """A message as the model sees it, and its size: made once, as most requests differ in little."""
        key = (entry.seq, short)
        if key not in self._made:
            images = not short and entry.seq > self._seen
            limit = _SHORT_RESULT if short else self._longest_result
            role, parts = entry.message
            if self._limits.only_words:
                parts = tuple([part for part in parts if isinstance(part, TextPart)])
            message = Message(role, tuple([_shown_part(part, entry.seq, limit, images) for part in parts]))
            self._made[key] = (message, size_of([message]))
        return self._made[key]

    async def fit(self, notify: Callable[[str], None], *, too_long: bool = False) -> list[Message]:
        """What to send now; less when the provider refused what was shown last as `too_long`.

        `notify` tells the owner what takes time.
        """
        view = self._view(self.window)
        if too_long:
            self._size = min(self._size, view.size) * 3 // 4
        if not self._has_room(view):
            await self._move(self._plan(), notify)
            view = self._view(self.window)
            if self._size < view.size:
                notify("What was asked may be more than the model can take. /new helps, or a larger model.")
        return view.messages

    def use(self, tokens: int = 0) -> ContextUse:
        """How large a request is now; of the last one the provider counted `tokens`."""
        size = self._limits.fixed + self._view(self.window).size
        return ContextUse(tokens, size // BYTES_PER_TOKEN, self._limits.window)

    async def compact(self) -> None:
        """Let a summary stand for everything before the newest turn, however much would fit."""
        for end in self._turn_ends()[-1:]:
            await self._move(self.window._replace(start=end, shortened=end), lambda _: None)

    def _has_room(self, view: _View, twelfths: int = 12) -> bool:
        """Whether it takes no more than so much of the limits."""
        few = view.earlier <= self._limits.messages * twelfths // 12
        return few and view.size <= self._size * twelfths // 12

    def _plan(self) -> Window:
        """The first window, from little loss to much, that leaves room for what is to come."""
        now, ends, mine = self.window, self._turn_ends(), self._claim.turn_id
        running = [entry for entry in self.entries if entry.turn_id == mine and entry.seq > now.start]
        steps = [entry.seq - 1 for entry in running if entry.message.role == "assistant"]
        earlier = max((e.seq for e in self.entries if e.turn_id != mine), default=0)
        levels = sorted({max(now.shortened, earlier), max(now.shortened, earlier, *steps[-1:])})
        last = max([now.start, *ends, *steps[1:]])
        for starts, shortened, twelfths in (
            ([now.start], levels, 8),
            (ends, levels, 6),
            (ends, levels, 9),
            (ends[-1:], levels, 12),
            (steps[1:], levels[-1:], 6),
            (steps[1:][-1:], levels[-1:], 12),
            ([last], [self.entries[-1].seq], 12),
        ):
            for level in shortened:  # the later it starts, the less is shown
                place = bisect_left(starts, True, key=partial(self._is_enough, level, twelfths))
                if place < len(starts):
                    return self._moved(level, starts[place])
        return self._moved(self.entries[-1].seq, last)

    def _is_enough(self, shortened: int, twelfths: int, start: int) -> bool:
        return self._has_room(self._view(self._moved(shortened, start)), twelfths)

    def _moved(self, shortened: int, start: int) -> Window:
        """The window with its summary at its longest."""
        summary = "." * self._summary_size if start > self.window.start else self.window.summary
        return self.window._replace(start=start, shortened=shortened, summary=summary)

    def _turn_ends(self) -> list[int]:
        """The messages in the window after which another turn begins."""
        inside = [entry for entry in self.entries if entry.seq > self.window.start]
        return [one.seq for one, other in pairwise(inside) if one.turn_id != other.turn_id]

    @property
    def _summary_size(self) -> int:
        return min(_SUMMARY_BYTES, self._size // 6)

    async def _move(self, after: Window, notify: Callable[[str], None]) -> None:
        before, key = self.window, self._claim.session_key
        if after.start > before.start:
            notify("Compacting the conversation: a summary takes the place of earlier messages.")
            summary = await self._summary(before.start, after.start)
            after = after._replace(summary=_joined(before.summary, summary, self._summary_size))
        if after != before and not await self._store.sessions.move_window(before, after):
            after = (await self._store.sessions.open(key)).window  # somebody else has compacted it
        self.window = after

    async def _summary(self, before: int, start: int) -> str:
        key = self._claim.session_key
        left = [entry for entry in self.entries if before < entry.seq <= start]
        first = left[0].seq - 1 if left else start
        unread = f"(messages {before + 1} to {first} are not in here)\n" if first > before else ""
        try:
            told = await self._summarise(key, left) if self._summarise and left else ""
        except NanobotError as error:
            log.warning("%s is summarised without what memory knows: %s", key, error)
            told = ""
        from nanobot.agent.digest import digest

        return f"{unread}{told}\n{digest(left)}".strip()


def _joins(answered: InboundMessage, other: InboundMessage) -> bool:
    """Reports join a report if the same message began their subagents; words of people join theirs.

    Commands, files and quotes wait for a turn of their own.
    """
    if answered.source != "report":
        return other.source == "person" and not (other.command or other.attachments or other.quoted)
    same = (other.source, other.family, other.deliver) == (answered.source, answered.family, answered.deliver)
    here = (answered.channel, answered.chat_id, answered.metadata)
    return same and (other.channel, other.chat_id, other.metadata) == here


async def read_record(store: Store, key: str, number: int) -> ToolOutput | None:
    """A message of the session as it was stored, or None."""
    from nanobot.store.export import as_markdown

    for stored in await store.sessions.history(key, after=number - 1, limit=1):
        if stored.seq == number:
            parts = stored.message.parts
            images = [part for part in parts if isinstance(part, ImagePart)]
            images += [image for result in stored.message.tool_results for image in result.images]
            return ToolOutput("\n".join(as_markdown(stored)), tuple(images))
    return None


def _room(limits: Limits, used: ContextUse) -> int:
    """Bytes for the conversation. A tokenizer that was seen to count more than estimated is believed."""
    denser = min(max(used.tokens / used.estimated, 1.0), 3.0) if used.estimated else 1.0
    tokens = (limits.window - min(limits.answer, limits.window // 4)) * 0.9 / denser
    return max(0, int(tokens * BYTES_PER_TOKEN) - limits.fixed)


def size_of(messages: Sequence[Message]) -> int:
    """Bytes of UTF-8, of which about four make a token; images at a flat rate."""
    return sum([_ENVELOPE + sum(map(_part_size, message.parts)) for message in messages])


def _part_size(part: Part) -> int:
    match part:
        case TextPart(text=text) | ContextPart(text=text):
            return _bytes(text)
        case ImagePart():
            return _IMAGE_BYTES
        case ToolCall(name=name, arguments=arguments):
            return _bytes(name) + _bytes(str(arguments))
        case ToolResult(content=content, images=images):
            return _bytes(content) + _IMAGE_BYTES * len(images)
        case ReasoningPart(text=text, signature=signature, redacted=redacted):
            return _bytes(text) + len(signature) + len(redacted)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _shown_part(part: Part, seq: int, limit: int, images: bool) -> Part:
    if not isinstance(part, _SHORTENED):
        return part
    pointer = f"read_file with the path record:{seq} shows"
    seen = f"\n[image left out, you saw it; {pointer} it again]"
    if isinstance(part, ImagePart) and not images:
        return ContextPart(seen)
    if isinstance(part, ToolResult) and len(part.content) > limit:
        head, tail = part.content[: limit * 2 // 3], part.content[-limit // 6 :]
        cut = f"[… {len(part.content) - len(head) - len(tail)} characters left out; {pointer} the whole …]"
        part = part._replace(content=f"{head}\n{cut}\n{tail}")
    if isinstance(part, ToolResult) and part.images and not images:
        return part._replace(content=part.content + seen, images=())
    return part


def _joined(old: str, new: str, limit: int) -> str:
    """Both summaries in `limit` bytes: of the new one the middle goes, of the old one the top."""
    kept, most = new.encode("utf-8", "replace"), limit * 2 // 3 if old else limit
    if len(kept) > most:
        kept = kept[: most // 3] + "\n…\n".encode() + kept[len(kept) - most // 2 :]
    before = f"{old}\n".encode("utf-8", "replace")
    left = max(0, len(before) + len(kept) - limit)
    return (before[left:] + kept).decode("utf-8", "ignore").strip()
