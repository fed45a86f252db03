"""Slash commands: one table, for the terminal and for chats."""
