"""Subagent profiles, and the orders that the spawn tool gives."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nanobot.bus import events
from nanobot.bus.events import SubagentChanged, TurnFinished
from nanobot.bus.hub import Hub
from nanobot.config.schema import Config, SubagentProfile
from nanobot.errors import ToolError, UsageError
from nanobot.messages import Address, InboundMessage, TurnContext
from nanobot.skills.library import SkillLibrary
from nanobot.store.records import Claim
from nanobot.store.store import Store
from nanobot.subagents.reports import SUBAGENT, cancelled

_LABEL_CHARS = 40
_OWNER_FILES = ("AGENTS.md", "TOOLS.md")  # of the owner's files, those that are about the work
_USED_UP = (
    "Stopped: this task and its subagents have used up the model calls they share"
    " (agents.defaults.maxToolIterations)."
)
_MCP = "mcp_"  # how the names of MCP tools begin


class SubagentRole(NamedTuple):
    """What the turn of a subagent works with. `model` empty: its parent's. `tools` are names.

    It may make `calls` model calls, of which `advice` says where that is set, and take `seconds`.
    """

    model: str
    prompt: str
    tools: Sequence[str]
    calls: int
    advice: str
    seconds: float


class Subagents:
    """What subagents may do, what is told of them, and how those of this process go.
    `owner_parts` gives what files of the owner say."""

    def __init__(
        self,
        config: Config,
        store: Store,
        hub: Hub,
        skills: SkillLibrary,
        owner_parts: Callable[[Sequence[str]], Sequence[tuple[str, str]]],
    ) -> None:
        self._config = config
        self._store = store
        self._hub = hub
        self._skills = skills
        self._owner_parts = owner_parts
        self.progress: dict[str, SubagentChanged] = {}  # of those that run here, by id
        self._began: dict[str, float] = {}  # by the monotonic clock

    # -- profiles

    def profile(self, name: str, allowed: Sequence[str]) -> SubagentProfile:
        """The profile called `name`, or the default one; `allowed` are the tools that subagents may have.
        Raises UsageError listing what is valid."""
        profiles = self._config.agents.subagent_profiles
        if name and name not in profiles:
            raise UsageError(f"There is no subagent profile {name!r}. Profiles: {_listed(profiles)}.")
        profile = profiles[name] if name else SubagentProfile()
        if profile.fault:
            raise UsageError(f"Subagent profile {name!r} cannot be used. {profile.fault}.")
        about = f"Subagent profile {name!r} names the"
        for tool in profile.tools:
            if tool != "exec" and tool not in allowed and not self._is_mcp_tool(tool, allowed):
                has = f"Tools: {_listed(allowed)}."
                raise UsageError(f"{about} tool {tool!r}, which subagents do not have. {has}")
        for skill in profile.skills:
            if skill not in self._skills.names():
                has = f"Skills: {_listed(self._skills.names())}."
                raise UsageError(f"{about} skill {skill!r}, which does not exist. {has}")
        return profile

    def _is_mcp_tool(self, tool: str, allowed: Sequence[str]) -> bool:
        """Whether `tool` may be one of a configured server that is not connected now."""
        servers = self._config.tools.mcp_servers
        prefixes = [f"{_MCP}{re.sub(r'[^A-Za-z0-9_-]', '_', server)}_" for server in servers]
        absent = [prefix for prefix in prefixes if not any(name.startswith(prefix) for name in allowed)]
        return tool.startswith(tuple(absent))

    def faults(self, allowed: Sequence[str]) -> Iterator[str]:
        """What is wrong with the configured profiles, in words for the owner."""
        for name in self._config.agents.subagent_profiles:
            try:
                self.profile(name, allowed)
            except UsageError as error:
                yield str(error)

    async def role(self, turn: TurnContext, allowed: Sequence[str], seconds: float) -> SubagentRole:
        """What the turn of a subagent works with; together with its family it has `seconds`.
        Raises UsageError for a profile that cannot be used."""
        subagent = await self._store.subagents.get(turn.inbound.chat_id)
        name = subagent.profile if subagent else ""
        if subagent and subagent.id not in self.progress:  # another process had taken the order
            self._wait(subagent.id, subagent.label, name)
        profile = self.profile(name, allowed)
        calls, key = profile.max_iterations, f"subagentProfiles.{name}.maxIterations"
        if "max_iterations" not in profile.model_fields_set:
            calls = self._config.agents.defaults.subagent_max_iterations
            key = "defaults.subagentMaxIterations"
        _, begun = await self._store.turns.family_spent(turn.family)
        left = max(0.0, begun + seconds - self._store.database.clock())
        names = profile.tools or [tool for tool in allowed if not tool.startswith(_MCP)]
        tools = [name for name in allowed if name in names]
        prompt = self._prompt(calls, profile.skills)
        return SubagentRole(profile.model or "", prompt, tools, calls, f"(agents.{key}).", left)

    def _prompt(self, calls: int, skills: Sequence[str]) -> str:
        """Identity and rules, the owner's instructions, and the skills."""
        rules = (Path(__file__).parent / "prompt.md").read_text(encoding="utf-8").strip()
        rules = rules.format(workspace=self._config.workspace_path, calls=calls)
        owner_parts = [text for _, text in self._owner_parts(_OWNER_FILES)]
        texts = [f"[skill {name}]\n{self._skills.text(name).strip()}" for name in skills]
        return "\n\n".join([rules, *owner_parts, *texts])

    # -- limits

    async def objection(self, claim: Claim, turn: TurnContext, own: int) -> str:
        """Count one more model call of a turn, unless it or its family has none left: then say so."""
        together = self._config.agents.defaults.max_tool_iterations
        is_report = turn.inbound.source == "report"  # whatever is used up: somebody has to tell it
        allowed = await self._store.turns.reserve_call(
            claim, turn.family, own, together, first_is_free=is_report
        )
        return "" if allowed else _USED_UP

    # -- progress and reports

    def observe(self, order: InboundMessage, event: events.TurnEvent) -> None:
        """Called for every event of a subagent's turn."""
        if order.chat_id not in self.progress:
            return
        if isinstance(event, events.TurnStarted):
            self._began[order.chat_id] = time.monotonic()
        seconds = round(time.monotonic() - self._began[order.chat_id], 3)
        now = self.progress[order.chat_id]._replace(seconds=seconds)
        match event:
            case events.TurnStarted():
                now = now._replace(state="running")
            case events.ToolStarted():
                now = now._replace(tool=event.hint)
            case events.ToolFinished():
                now = now._replace(tool="")
            case events.UsageReported():
                now = now._replace(calls=now.calls + 1, usage=now.usage + event.usage)
            case TurnFinished():
                now = now._replace(state=event.stop_reason, tool="", text=event.error or event.text)
        self._tell(order, now)

    def _wait(self, subagent: str, label: str, profile: str) -> SubagentChanged:
        self._began[subagent] = time.monotonic()
        self.progress[subagent] = SubagentChanged(subagent, label, profile, "waiting")
        return self.progress[subagent]

    def _tell(self, order: InboundMessage, now: SubagentChanged) -> None:
        self.progress[order.chat_id] = now
        if now.state not in ("waiting", "running"):
            del self.progress[order.chat_id], self._began[order.chat_id]
        self._hub.publish(order, now)

    async def cancel(self, session_key: str, ids: Collection[str] | None) -> list[str]:
        """Cancel subagents of a session (None: all, silently); the ids of those that had not ended."""
        found = await self._store.subagents.unfinished(session_key)
        if ids is None:
            told = dict.fromkeys(info.id for info, _ in found)
        else:
            told = {info.id: cancelled(order, info.label) for info, order in found if info.id in ids}
        ended = await self._store.subagents.cancel(session_key, told) if told else []
        for info, order in found:
            now = self.progress.get(info.id)
            if info.id in ended and now is not None and now.state == "waiting":  # no turn will say so
                self._tell(order, now._replace(state="cancelled"))
        return ended

    # -- orders

    async def spawn(self, turn: TurnContext, call_id: str, task: str, label: str, profile: str) -> str:
        """Give an order, once for each call; returns the subagent's id. Raises ToolError."""
        await self._check_allowance(turn)
        order = _order(turn, call_id, task)
        label = _label(label) or _label(task)
        if await self._store.subagents.add(order, label, profile):
            self._hub.publish(order, self._wait(order.chat_id, label, profile))
            self._hub.notify()
        return order.chat_id

    async def _check_allowance(self, turn: TurnContext) -> None:
        limits = self._config.agents.defaults
        if turn.inbound.source == "order":
            raise ToolError("A subagent cannot spawn others. Do the task yourself.")
        calls, begun = await self._store.turns.family_spent(turn.family)
        newest = await self._store.subagents.of(turn.session_key, 100)
        waiting = sum(info.state == "waiting" for info in newest)  # each will need a call at least
        if calls + waiting >= limits.max_tool_iterations:
            raise ToolError("No model calls are left for another subagent. Answer with what you have.")
        if self._store.database.clock() - begun >= limits.turn_timeout_seconds:
            raise ToolError("The time for this request is over. Answer with what you have.")


def _order(turn: TurnContext, call_id: str, task: str) -> InboundMessage:
    """What a subagent is asked, for the session and the chat of the turn that asks."""
    subagent = hashlib.sha256(f"{turn.turn_id}:{call_id}".encode()).hexdigest()[:8]
    by = turn.inbound
    return InboundMessage(
        SUBAGENT,
        subagent,
        sender_id=by.session_key,
        text=task,
        external_id=subagent,
        session_key=f"{SUBAGENT}:{subagent}",
        is_group=by.is_group,  # what it may know is what the group may
        source="order",
        trust=by.trust,
        reply_to=Address(by.session_key, by.channel, by.chat_id, by.metadata, by.is_group),
        deliver=by.deliver,
        family=turn.family,
        owner=by.owner,
    )


def _label(text: str) -> str:
    """The beginning of `text` in one line that may be shown anywhere."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:_LABEL_CHARS]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
