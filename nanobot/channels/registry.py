"""The table of channels. An SDK is imported only when its channel is enabled."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from nanobot.channels.base import Channel
from nanobot.config.channels import ChannelsConfig
from nanobot.errors import ChannelError, ConfigError

log = logging.getLogger(__name__)

ENTRY_POINTS = "nanobot.channels"


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    """A row: config key, where its class lives, and the extra that installs its SDK."""

    name: str
    module: str
    cls: str
    extra: str
    display_name: str


CHANNELS: tuple[ChannelSpec, ...] = (
    ChannelSpec("telegram", "nanobot.channels.telegram", "TelegramChannel", "telegram", "Telegram"),
)

# Configured like the others, but not built into this version yet.
PLANNED = ("whatsapp", "discord", "feishu", "mochat", "dingtalk", "slack", "email", "qq")


def enabled_channels(config: ChannelsConfig) -> dict[str, Any]:
    """The sections of the enabled channels by name: bundled ones, then those of plugins."""
    bundled = {spec.name: getattr(config, spec.name) for spec in CHANNELS}
    planned = {name: getattr(config, name) for name in PLANNED}
    sections = bundled | planned | dict(config.model_extra or {})
    return {name: section for name, section in sections.items() if _setting(section, "enabled")}


def allow_from(name: str, section: Any) -> list[str]:
    """The `allowFrom` of the channel's section. Raises ConfigError when it is no list of ids."""
    value = _setting(section, "allow_from", "allowFrom")
    if value is None and not (isinstance(section, Mapping) and _null_allow_from(section)):
        return []
    if not isinstance(value, list) or not all(isinstance(entry, str | int) for entry in value):
        raise ConfigError(
            f'channels.{name}.allowFrom must be a list of ids, for example ["12345"]; [] admits everyone.'
        )
    return [str(entry) for entry in value]


def _null_allow_from(section: Mapping[str, Any]) -> bool:
    return "allowFrom" in section or "allow_from" in section


def _setting(section: Any, *names: str) -> Any:
    """A value of a section; sections of plugins are plain dicts."""
    for name in names:
        if isinstance(section, Mapping):
            if name in section:
                return section[name]
        elif hasattr(section, name):
            return getattr(section, name)
    return None


def load_channel(name: str) -> type[Channel]:
    """The class of a channel. Raises ChannelError saying how to get it when it cannot be loaded."""
    spec = next((spec for spec in CHANNELS if spec.name == name), None)
    # SDKs stand on httpx, whose unused command line would load rich and pygments: 8 MB of idle memory.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    try:
        if spec is not None:
            loaded = getattr(importlib.import_module(spec.module), spec.cls)
        else:
            loaded = _from_plugin(name)
    except ImportError as error:
        extra = spec.extra if spec else name
        raise ChannelError(
            f'{name} needs a library that is missing ({error}). Run: pip install "nanobot-ai[{extra}]"',
            permanent=True,
        ) from error
    except ChannelError:
        raise
    except Exception as error:
        log.exception("Channel %s cannot be loaded", name)
        raise ChannelError(
            f"{name} cannot be loaded ({type(error).__name__}: {error}).", permanent=True
        ) from error
    if not (isinstance(loaded, type) and issubclass(loaded, Channel)):
        raise ChannelError(f"The plugin of channel {name} is no Channel class.", permanent=True)
    return loaded


def _from_plugin(name: str) -> Any:
    found = list(entry_points(group=ENTRY_POINTS, name=name))
    if found:
        return found[0].load()
    if name in PLANNED:
        raise ChannelError(f"{name} is not supported by this version yet.", permanent=True)
    known = ", ".join(spec.name for spec in CHANNELS)
    raise ChannelError(
        f"There is no channel {name}. Built in: {known}. A plugin adds one with an entry point of the "
        f"group {ENTRY_POINTS}.",
        permanent=True,
    )
