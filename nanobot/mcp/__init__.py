"""MCP servers as tools. Imported when a server is configured."""
