"""What memory asks of a store, beyond conversations."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from nanobot.session.memory_log import MemoryChange, Unconsolidated
from nanobot.session.store import Store, StoredMessage

Matches = Callable[[str], bool]


class MemoryStore(Store, Protocol):
    """A store that also keeps how far consolidation came, and can forget. Raises StorageError."""

    async def unconsolidated(self, window: int, key: str = "") -> list[Unconsolidated]:
        """Sessions in which people speak, with `window` such messages or some before their start.

        With `key` that session alone, as it is.
        """

    async def unattended_turns(self, key: str, after: int, until: int) -> frozenset[int]:
        """The turns of these messages that nobody wrote: schedules, results of subagents."""

    async def commit_change(self, session: Unconsolidated, until: int, body: str) -> bool:
        """Move the session's cursor to `until` and note what that changes in the files, in one transaction.

        False, and nothing is done, when the cursor was moved or something was forgotten meanwhile.
        """

    async def pending_changes(self) -> list[MemoryChange]:
        """Changes that are not in the files yet, oldest first."""

    async def change_applied(self, change_id: int) -> None: ...

    async def changes_of(self, key: str, first: int, last: int) -> list[MemoryChange]:
        """The changes that stand for some of these messages, oldest first."""

    async def consolidation_failed(self, key: str, error: str, retry_at: float) -> None: ...

    async def messages_like(self, matches: Matches, only: str = "") -> list[tuple[str, StoredMessage]]:
        """The messages, with their session, that have a text `matches` is true of; of one session or all."""

    async def redact(
        self, matches: Matches, messages: Collection[tuple[str, int]] = (), only: str = ""
    ) -> list[tuple[str, int]]:
        """Take the words out of these messages and of whatever has a text `matches` is true of.

        Roles, calls and their results stay paired. Returns the redacted messages. `only`: in one session.
        """

    async def scrub(self) -> None:
        """Leave no byte of what was redacted in the database's files."""
