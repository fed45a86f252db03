"""What runs day and night: one leading gateway on a home, and the others that stand by."""

from nanobot.gateway.service import Gateway

__all__ = ["Gateway"]
