"""Configuration of the chat platforms: `channels` in config.json."""

from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import ClassVar, Literal

from nanobot.config.section import Section, key, part

GroupPolicy = Literal["mention", "open", "allowlist"]


class ChannelConfig(Section):
    """What all channels share. Ids written as numbers are read as text."""

    numbers_as_text: ClassVar[bool] = True
    enabled: bool = key(False, "Whether the gateway connects to this platform.")
    allow_from: list[str] = key([], "Ids of those who may talk to the bot; empty or `*`: everyone.")
    group_policy: GroupPolicy = key(
        "mention", "In groups: answer mentions, everything, or everything in listed ones."
    )
    group_allow_from: list[str] = key([], "Ids of the groups of the policy `allowlist`.")


class WhatsAppConfig(ChannelConfig):
    bridge_url: str = key("ws://localhost:3001", "WebSocket address of the local bridge.")
    bridge_token: str = key("", "Secret shared with the bridge.", secret=True)


class TelegramConfig(ChannelConfig):
    token: str = key("", "Bot token from @BotFather.", secret=True)
    api_base: str = key("", "Address of a Bot API server of your own; empty: Telegram's.")
    proxy: str | None = key(None, "HTTP or SOCKS5 proxy address.", secret=True)
    reply_to_message: bool = key(False, "Whether replies quote the message they answer.")


class DiscordConfig(ChannelConfig):
    token: str = key("", "Bot token from the developer portal.", secret=True)
    gateway_url: str = key("wss://gateway.discord.gg/?v=10&encoding=json", "Address of Discord's gateway.")
    intents: int = key(37377, "Gateway intents as a bit set.", ge=0)


class FeishuConfig(ChannelConfig):
    app_id: str = key("", "App ID from the Feishu open platform.")
    app_secret: str = key("", "App secret.", secret=True)
    encrypt_key: str = key("", "Event encryption key; optional.", secret=True)
    verification_token: str = key("", "Event verification token; optional.", secret=True)


class DingTalkConfig(ChannelConfig):
    client_id: str = key("", "AppKey of the robot.")
    client_secret: str = key("", "AppSecret of the robot.", secret=True)


class QQConfig(ChannelConfig):
    app_id: str = key("", "AppID of the bot.")
    secret: str = key("", "AppSecret of the bot.", secret=True)


class SlackDmConfig(Section):
    numbers_as_text: ClassVar[bool] = True
    enabled: bool = key(True, "Whether direct messages are answered.")
    policy: Literal["open", "allowlist"] = key("open", "Who may write: everyone, or those in allowFrom.")
    allow_from: list[str] = key([], "User ids admitted by the policy `allowlist`.")


class SlackConfig(ChannelConfig):
    mode: str = key("socket", "How Slack is reached; `socket` is the only mode.")
    webhook_path: str = key("/slack/events", "Read for compatibility; Socket Mode needs none.")
    bot_token: str = key("", "Bot token (`xoxb-…`).", secret=True)
    app_token: str = key("", "App-level token (`xapp-…`).", secret=True)
    user_token_read_only: bool = key(True, "Read for compatibility; user tokens are not used.")
    reply_in_thread: bool = key(True, "Whether replies in channels go into a thread.")
    react_emoji: str = key("eyes", "Reaction put on a message that is being answered.")
    dm: SlackDmConfig = part(SlackDmConfig, "Direct messages.")


class EmailConfig(ChannelConfig):
    consent_granted: bool = key(False, "The owner's permission to read the mailbox.")
    imap_host: str = key("", "IMAP server.")
    imap_port: int = key(993, "IMAP port.", ge=0, le=65535)
    imap_username: str = key("", "IMAP user name.")
    imap_password: str = key("", "IMAP password.", secret=True)
    imap_mailbox: str = key("INBOX", "Mailbox to poll.")
    imap_use_ssl: bool = key(True, "TLS from the first byte (port 993).")
    smtp_host: str = key("", "SMTP server.")
    smtp_port: int = key(587, "SMTP port.", ge=0, le=65535)
    smtp_username: str = key("", "SMTP user name.")
    smtp_password: str = key("", "SMTP password.", secret=True)
    smtp_use_tls: bool = key(True, "STARTTLS (port 587).")
    smtp_use_ssl: bool = key(False, "TLS from the first byte (port 465).")
    from_address: str = key("", "Sender address; empty: the SMTP user name.")
    auto_reply_enabled: bool = key(True, "Whether mails are answered, or only read.")
    poll_interval_seconds: int = key(30, "Seconds between polls; at least 5 are waited.")
    mark_seen: bool = key(True, "Whether handled mails are marked as read.")
    max_body_chars: int = key(12000, "Characters of a mail's body that are read.", ge=1)
    subject_prefix: str = key("Re: ", "Put before the subject of a reply.")


class MochatRules(Section):
    require_in_groups: bool = key(False, "In `mention`: whether groups are answered on mention only.")
    require_mention: bool = key(False, "In `groups`: whether this group is answered on mention only.")


class MochatConfig(ChannelConfig):
    base_url: str = key("https://mochat.io", "Address of the service.")
    socket_url: str = key("", "Socket.IO address; empty: baseUrl.")
    socket_path: str = key("/socket.io", "Path of the Socket.IO endpoint.")
    socket_disable_msgpack: bool = key(False, "Use JSON instead of msgpack on the socket.")
    socket_reconnect_delay_ms: int = key(1000, "First wait before reconnecting (ms).", ge=0)
    socket_max_reconnect_delay_ms: int = key(10000, "Longest such wait (ms).", ge=0)
    socket_connect_timeout_ms: int = key(10000, "Time to connect (ms).", ge=0)
    refresh_interval_ms: int = key(30000, "Refresh of sessions and panels (ms).", ge=0)
    watch_timeout_ms: int = key(25000, "Length of a long poll (ms).", ge=0)
    watch_limit: int = key(100, "Messages of one poll.", ge=1)
    retry_delay_ms: int = key(500, "Wait before a request is repeated (ms).", ge=0)
    max_retry_attempts: int = key(0, "Attempts to reconnect; 0: no limit.", ge=0)
    claw_token: str = key("", "Token sent as X-Claw-Token.", secret=True)
    agent_user_id: str = key("", "User id of the bot.")
    sessions: list[str] = key([], "Session ids to watch; `*`: all.")
    panels: list[str] = key([], "Panel ids to watch; `*`: all.")
    mention: MochatRules = part(MochatRules, "Rules of all groups.")
    groups: dict[str, MochatRules] = key({}, "Rules of single groups, by group id.")
    reply_delay_mode: Literal["off", "non-mention"] = key("non-mention", "Which messages wait for more.")
    reply_delay_ms: int = key(120000, "How long they wait (ms).", ge=0)


class ChannelsConfig(Section):
    """The bundled platforms. Sections of channels that come from plugins are kept in `model_extra`."""

    send_progress: bool = key(True, "Send the model's interim words to the chat.")
    send_tool_hints: bool = key(False, "Same as showToolProgress.")
    show_tool_progress: bool = key(False, 'Send tool calls such as `web_search("query")`.')
    whatsapp: WhatsAppConfig = part(WhatsAppConfig, "WhatsApp.")
    telegram: TelegramConfig = part(TelegramConfig, "Telegram.")
    discord: DiscordConfig = part(DiscordConfig, "Discord.")
    feishu: FeishuConfig = part(FeishuConfig, "Feishu (Lark).")
    dingtalk: DingTalkConfig = part(DingTalkConfig, "DingTalk.")
    qq: QQConfig = part(QQConfig, "QQ.")
    slack: SlackConfig = part(SlackConfig, "Slack.")
    email: EmailConfig = part(EmailConfig, "Email.")
    mochat: MochatConfig = part(MochatConfig, "Mochat.")

    @classmethod
    def extra_keys(cls) -> Iterable[str]:
        """The channels of installed plugins."""
        return entry_points(group="nanobot.channels").names
