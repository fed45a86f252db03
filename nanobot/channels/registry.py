"""Loads channels, bundled ones and those of plugins. An SDK is imported only when its channel is enabled."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Collection
from importlib.metadata import entry_points
from typing import Any

from nanobot.channels.base import Channel
from nanobot.config.channels import CHANNELS, ENTRY_POINTS, PLANNED, ChannelConfig
from nanobot.errors import ChannelError, ConfigError

log = logging.getLogger(__name__)


def allow_from(name: str, section: Any) -> list[str]:
    """The `allowFrom` of the channel's section. Raises ConfigError when it is no list of ids."""
    if isinstance(section, ChannelConfig):
        return section.allow_from
    value = section.get("allowFrom", section.get("allow_from", []))
    if not isinstance(value, list) or not all(type(entry) in (str, int) and entry != "" for entry in value):
        raise ConfigError('allowFrom must be a list of ids, for example ["12345"]; [] admits everyone.')
    return [str(entry) for entry in value]


def load_channel(name: str) -> type[Channel]:
    """The class of a channel. Raises ChannelError saying how to get it when it cannot be loaded."""
    try:
        loaded = _load(name)
    except ImportError as error:
        missing = f'{name} needs a library that is missing ({error}). Run: pip install "nanobot-ai[{name}]"'
        raise ChannelError(missing, permanent=True) from error
    except ChannelError:
        raise
    except Exception as error:
        log.exception("Channel %s cannot be loaded", name)
        reason = f"{name} cannot be loaded ({type(error).__name__}: {error})."
        raise ChannelError(reason, permanent=True) from error
    if not (isinstance(loaded, type) and issubclass(loaded, Channel)):
        raise ChannelError(f"The plugin of channel {name} is no Channel class.", permanent=True)
    return loaded


class _Without:
    """Hides modules from what the thread imports that made it: as if they were not installed."""

    def __init__(self, modules: Collection[str]) -> None:
        self._modules = modules
        self._thread = threading.get_ident()

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name in self._modules and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"{name} is not needed here", name=name)


def _load(name: str) -> Any:
    for spec in CHANNELS:
        if spec.name == name:
            finder = _Without(spec.unused)
            sys.meta_path.insert(0, finder)
            try:
                return spec.channel()
            finally:
                sys.meta_path.remove(finder)
    for point in entry_points(group=ENTRY_POINTS, name=name):
        return point.load()
    if name in PLANNED:
        raise ChannelError(f"{name} is not supported by this version yet.", permanent=True)
    known = ", ".join(spec.name for spec in CHANNELS)
    how = f"A plugin adds one with an entry point of the group {ENTRY_POINTS}."
    raise ChannelError(f"There is no channel {name}. Built in: {known}. {how}", permanent=True)
