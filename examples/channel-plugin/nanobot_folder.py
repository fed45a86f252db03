"""A channel made of folders: a file in `inbox` is a message, its answer becomes a file in `replies`."""

import asyncio
import shutil
from pathlib import Path

from nanobot.channels.base import Channel
from nanobot.errors import ChannelError
from nanobot.messages import InboundMessage, OutboundMessage
from nanobot.paths import safe_name


class FolderChannel(Channel):
    async def run(self) -> None:
        inbox = Path(self.config["path"]).expanduser() / "inbox"
        inbox.mkdir(parents=True, exist_ok=True)
        self.host.connected()
        while True:
            for file in sorted(inbox.glob("*.txt")):
                await self.host.accept(self._message(file), ())  # returns when it is safe on disk,
                file.unlink()  # so only now its platform may forget it
            await asyncio.sleep(0.5)

    def _message(self, file: Path) -> InboundMessage:
        about = file.stat()
        return InboundMessage(
            channel=self.name,
            chat_id=file.stem,
            sender_id=str(about.st_uid),  # what allowFrom is compared with
            text=file.read_text(encoding="utf-8", errors="replace"),
            external_id=f"{file.name} {about.st_mtime_ns}",  # seen again after a crash: no new message
            session_key=f"{self.name}:{file.stem}",
        )

    async def send(self, message: OutboundMessage) -> str:
        replies = Path(self.config["path"]).expanduser() / "replies" / safe_name(message.chat_id)
        try:
            replies.mkdir(parents=True, exist_ok=True)
            for item in message.attachments:
                shutil.copy(item.path, replies / safe_name(item.name))
            (replies / f"{safe_name(message.id)}.txt").write_text(message.text, encoding="utf-8")
        except OSError as error:  # a ChannelError keeps the reply and tries again
            raise ChannelError(f"Cannot write the reply: {error}") from error
        return message.id
