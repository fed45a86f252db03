"""nanobot: an ultra-lightweight personal AI assistant."""

__version__ = "0.2.0"
