"""Situations from public reports, rebuilt: each file is named by what happens."""
