"""Talking in a terminal: one reply or a conversation, what a turn looks like, where the owner types."""
