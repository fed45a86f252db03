"""Consolidation in tests: a real store and real files, conversations, models that answer as told."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanobot import paths
from nanobot.memory.consolidation import Consolidator
from nanobot.memory.files import MemoryFiles
from nanobot.memory.forget import Forgetter
from nanobot.messages import InboundMessage, Message
from nanobot.providers.base import ModelRequest, Provider
from nanobot.providers.scripted import Reply, ScriptedProvider
from nanobot.store.store import Store
from tests.talk import claim_next, claim_own

NOON = 1_790_000_000.0  # 2026-09-21


@dataclass
class Clock:
    now: float = NOON

    def __call__(self) -> float:
        return self.now


def reply(history: str = "They talked about this and that.", *operations: dict[str, Any]) -> str:
    return json.dumps({"history": history, "operations": operations})


def add(text: str, *evidence: int) -> dict[str, Any]:
    return {"op": "add", "text": text, "evidence": list(evidence)}


def supersede(fact: str, text: str, *evidence: int) -> dict[str, Any]:
    return {"op": "supersede", "id": fact, "text": text, "evidence": list(evidence)}


def expire(fact: str, *evidence: int) -> dict[str, Any]:
    return {"op": "expire", "id": fact, "evidence": list(evidence)}


Script = Sequence[Reply | str] | Callable[[ModelRequest], Reply | str]


@dataclass
class World:
    """A home in NANOBOT_HOME, its store, and a consolidator whose model follows `script`."""

    script: Script = ()
    window: int = 8
    timeout: float = 30.0
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.store = Store(paths.database_file(), self.clock)
        self.folder = paths.home() / "workspace" / "memory"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.files = MemoryFiles(self.folder, paths.home() / "backups" / "memory")
        self.provider = ScriptedProvider(self.script)
        self.consolidator = Consolidator(
            self.store, self.files, self._model, self.window, self.timeout, clock=self.clock
        )

    async def _model(self, session_key: str) -> tuple[str, Provider]:
        return "scripted/test", self.provider

    def forgetter(self) -> Forgetter:
        return Forgetter(self.consolidator)

    def use(self, script: Script) -> None:
        self.provider = ScriptedProvider(script)

    async def turn(self, *messages: Message, session: str = "cli:direct") -> None:
        """A finished turn with these messages."""
        claim = await claim_own(self.store, session)
        assert claim is not None
        for message in messages:
            await self.store.turns.append(claim, message)
        await self.store.turns.finish(claim, "done")

    async def say(self, *texts: str, session: str = "cli:direct") -> None:
        """Turns in which the user says this and the assistant agrees."""
        for text in texts:
            await self.turn(Message.user(text), Message.assistant("I see."), session=session)

    async def chat(self, inbound: InboundMessage, *messages: Message) -> None:
        """A turn of a message that came through a channel."""
        await self.store.inbox.accept(inbound)
        turn = await claim_next(self.store)
        assert turn is not None
        for message in messages:
            await self.store.turns.append(turn.claim, message)
        await self.store.turns.finish(turn.claim, "done")

    async def new(self, session: str = "cli:direct") -> None:
        await self.store.conversations.begin(session)

    @property
    def memory(self) -> str:
        return self._read(self.files.memory)

    @property
    def history(self) -> str:
        return self._read(self.files.history)

    def facts(self) -> list[str]:
        return [fact.text for fact in self.files.facts()]

    def ids(self) -> dict[str, str]:
        return {fact.text: fact.id for fact in self.files.facts()}

    @staticmethod
    def _read(path: Path) -> str:
        return path.read_text() if path.exists() else ""
