"""The embedded adapter of `session.store.Store`: SQLite. All SQL is here, and nothing else is."""
