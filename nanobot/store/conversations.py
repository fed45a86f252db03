"""Conversations: each session holds some, one of which is going on. A fork shares what was said before it."""

from __future__ import annotations

from nanobot.store.records import SessionInfo, StoredMessage
from nanobot.store.sessions import INFO, begin_conversation, branch, go_on, read_messages, session_info
from nanobot.store.sqlite import Connection, Table, writes


class Conversations(Table):
    """What was talked about, each conversation with its title and its window."""

    async def newest(
        self, limit: int = 50, session: str = "", *, subagents: bool = True
    ) -> list[SessionInfo]:
        """Those that changed last, newest first, without empty ones; of one session, if it is named."""
        rows = await self.database.rows(
            f"{INFO} WHERE (? = '' OR session = ?) AND (? OR kind <> 'subagent') AND (messages > 0"
            " OR conversation = id) ORDER BY conversations.updated_at DESC, id DESC LIMIT ?",
            *(session, session, subagents, limit),
        )
        return [session_info(row) for row in rows]

    async def get(self, conversation: int) -> SessionInfo | None:
        rows = await self.database.rows(f"{INFO} WHERE id = ?", conversation)
        return session_info(rows[0]) if rows else None

    async def messages(self, conversation: int, after: int, limit: int) -> list[StoredMessage]:
        """What was said in it after message `after` of its session, oldest first."""
        return await self.database.read(read_messages, conversation, limit, after, newest=False)

    async def latest(self, conversation: int, limit: int) -> list[StoredMessage]:
        """What was said last in it, oldest first."""
        return await self.database.read(read_messages, conversation, limit)

    async def rename(self, conversation: int, title: str) -> None:
        await self.database.change("UPDATE conversations SET title = ? WHERE id = ?", title, conversation)

    @writes
    def begin(self, connection: Connection, session: str) -> None:
        """Begin another one, unless nothing was said in this one yet; that is kept, and owed to memory."""
        connection.hold(session)
        said = "SELECT 1 FROM sessions JOIN conversations ON id = conversation WHERE key = ? AND messages > 0"
        if connection.row(said, session):
            begin_conversation(connection, session)

    @writes
    def go_on(self, connection: Connection, conversation: int) -> None:
        """Make it the one that its session goes on with."""
        go_on(connection, _session_of(connection, conversation), conversation)

    @writes
    def fork(self, connection: Connection, conversation: int, seq: int) -> None:
        """Go on with what was said in it up to message `seq`, in another one; it stays as it is."""
        key = _session_of(connection, conversation)
        counting = "SELECT COUNT(*) FROM messages WHERE conversation = ? AND seq <= ?"
        shared = sum(connection.rows(counting, *part)[0][0] for part in branch(connection, conversation, seq))
        (old,) = connection.rows("SELECT * FROM conversations WHERE id = ?", conversation)
        start, summary = (old["start_seq"], old["summary"]) if old["start_seq"] < seq else (0, "")
        connection.change(
            "UPDATE conversations SET parent = ?, fork_seq = ?, messages = ?, title = ?, start_seq = ?,"
            " shortened_seq = ?, summary = ? WHERE id = ?",
            *(conversation, seq, shared, old["title"] if shared else "", start),
            *(old["shortened_seq"], summary, begin_conversation(connection, key)),
        )


def _session_of(connection: Connection, conversation: int) -> str:
    """The session, held."""
    (row,) = connection.rows("SELECT session FROM conversations WHERE id = ?", conversation)
    connection.hold(row["session"])
    return str(row["session"])
