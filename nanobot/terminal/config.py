"""The configuration, for a command that somebody watches."""

from nanobot.config.loader import LoadedConfig, load_config
from nanobot.terminal.screen import complain


def load_and_warn() -> LoadedConfig:
    """The configuration; what is odd about it goes to stderr."""
    loaded = load_config()
    for warning in loaded.warnings:
        complain(f"Warning: {warning}")
    return loaded
