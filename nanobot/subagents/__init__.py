"""Subagents: profiles, the spawn tool, and the reports that come back."""
