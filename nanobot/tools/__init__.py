"""The built-in tools: what the assistant does with files, the shell, the web and its chats.

The contract they follow, and plugins too, is in `nanobot.agent.tools`.
"""
