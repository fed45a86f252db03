"""Discord's section of config.json; read without the library."""

from nanobot.config.channels import ChannelConfig
from nanobot.config.section import key


class DiscordConfig(ChannelConfig):
    token: str = key("", "Bot token from the developer portal.", secret=True)
    gateway_url: str = key("wss://gateway.discord.gg/?v=10&encoding=json", "Address of Discord's gateway.")
    intents: int = key(37377, "Gateway intents as a bit set.", ge=0)
    api_base: str = key("", "Address of the REST API; empty: Discord's.")
    proxy: str | None = key(None, "HTTP proxy address.", secret=True)
    reply_to_message: bool = key(False, "Whether replies refer to the message they answer.")
    react_emoji: str = key("", "Reaction put on a message that is being answered, such as 👀.")
