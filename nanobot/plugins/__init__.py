"""Tool plugins: Python files in the owner's workspace that add tools."""
