"""Telegram's section of config.json; read without the library."""

from nanobot.config.channels import ChannelConfig
from nanobot.config.section import key


class TelegramConfig(ChannelConfig):
    token: str = key("", "Bot token from @BotFather.", secret=True)
    api_base: str = key("", "Address of a Bot API server of your own; empty: Telegram's.")
    proxy: str | None = key(None, "HTTP or SOCKS5 proxy address.", secret=True)
    reply_to_message: bool = key(False, "Whether replies quote the message they answer.")
    react_emoji: str = key("", "Reaction put on a message that is being answered, such as 👀.")
