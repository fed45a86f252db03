"""What nanobot must not lose: sessions, turns, inbox and outbox, subagents, on one database."""
