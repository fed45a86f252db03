"""Configuration of the chat platforms: `channels` in config.json. Each platform keeps its own section."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Literal

from nanobot.config.section import Section, key

GroupPolicy = Literal["mention", "open", "allowlist"]

ENTRY_POINTS = "nanobot.channels"


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    """A bundled channel. In channels/, NAME.py has its TITLEChannel, NAME_config.py its section, TITLEConfig.

    The extra that installs its SDK has the name of the channel. The section is read without the SDK, and
    the SDK without the modules that are `unused` here.
    """

    name: str
    title: str
    unused: tuple[str, ...] = ()

    def channel(self) -> Any:
        """Its class. Raises ImportError."""
        return getattr(import_module(f"nanobot.channels.{self.name}"), f"{self.title}Channel")

    def section(self) -> Any:
        """The class of its section."""
        return getattr(import_module(f"nanobot.channels.{self.name}_config"), f"{self.title}Config")


CHANNELS: tuple[ChannelSpec, ...] = (
    # unused: httpx's command line (rich, pygments) and the decryption of passports, 15 MB of memory
    ChannelSpec("telegram", "Telegram", unused=("httpx._main", "cryptography")),
    ChannelSpec("discord", "Discord"),
)
# Known from older configurations: not built into this version yet, so their keys are kept and not read.
PLANNED = ("whatsapp", "feishu", "mochat", "dingtalk", "slack", "email", "qq")


class ChannelConfig(Section):
    """What all channels share."""

    alone: ClassVar[str] = "this channel is off"
    enabled: bool = key(False, "Whether the gateway connects to this platform.")
    allow_from: list[str] = key(
        [], "Ids of those who may talk to the bot; `[]` or `*`: everyone.", min_length=1
    )
    group_policy: GroupPolicy = key(
        "mention", "In groups: answer mentions, everything, or everything in listed ones."
    )
    group_allow_from: list[str] = key([], "Ids of the groups of the policy `allowlist`.", min_length=1)


class OtherChannel(Section):
    """The section of a plugin, which reads it itself, or of a channel that is not in this version."""

    alone: ClassVar[str] = ChannelConfig.alone
    verbatim: ClassVar[bool] = True

    @classmethod
    def extra_kind(cls, name: str) -> Any:
        return Any


class ChannelsConfig(Section):
    """What is the same for all platforms. Their sections are in `model_extra`: those of bundled channels as
    the channel declares them, others as they are written.
    """

    alone: ClassVar[str] = "its default counts"
    extra_names: ClassVar[tuple[str, ...]] = (*(spec.name for spec in CHANNELS), *PLANNED)
    send_progress: bool = key(True, "Send the model's interim words to the chat.")
    send_tool_hints: bool = key(False, "Same as showToolProgress.")
    show_tool_progress: bool = key(False, 'Send tool calls such as `web_search("query")`.')

    @classmethod
    def extra_kind(cls, name: str) -> Any:
        for spec in CHANNELS:
            if spec.name == name:
                return spec.section()
        from importlib.metadata import entry_points

        known = name in PLANNED or name in entry_points(group=ENTRY_POINTS).names
        return OtherChannel if known else None

    def enabled(self) -> dict[str, Any]:
        """The sections of the enabled channels by name."""
        return {name: section for name, section in self.model_extra.items() if _is_enabled(section)}

    def faults(self) -> dict[str, str]:
        """What is wrong with sections that are off because of it, by name."""
        sections = self.model_extra.items()
        return {name: section.fault for name, section in sections if getattr(section, "fault", "")}


def _is_enabled(section: Any) -> bool:
    if isinstance(section, dict):
        return bool(section.get("enabled"))
    return not section.fault and section.enabled
