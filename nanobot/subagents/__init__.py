"""Subagents: profiles, the spawn tool, and the reports that come back."""

SUBAGENT = "subagent"  # the channel of orders, and who sends reports
