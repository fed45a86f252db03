"""Keys, tokens and passwords in a text: they are never remembered."""

from __future__ import annotations

import re

_MASK = "[secret]"
_KEYS = re.compile(
    r"""
      -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----.*?(?:-----END[ ][A-Z ]*-----|\Z)
    | \b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}                      # OpenAI, Anthropic, OpenRouter, Stripe
    | \b(?:gh[pousr]_|github_pat_|glpat-|hf_|gsk_|xai-|npm_|pypi-|ya29\.|tvly-)[A-Za-z0-9_.-]{16,}
    | \bxox[a-z]-[A-Za-z0-9-]{10,}                              # Slack
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b                             # AWS
    | \bAIza[A-Za-z0-9_-]{30,}                                  # Google
    | \b\d{8,10}:[A-Za-z0-9_-]{35}\b                            # Telegram bot
    | \beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*   # JSON web token
    | \b(?=\w{32})(?=(?:[A-Za-z_]*\d){6})[A-Za-z0-9_]{32,}={0,2}    # long and random
    | (?<=://)[^\s/:@]+:[^\s/@]+(?=@)                           # a login in an address
    """,
    re.VERBOSE | re.DOTALL,
)
_NAMED = re.compile(
    r"""
    \b(?:api[ _-]?key|secret(?:[ _-]key)?|access[ _-]?token|token|password|passwor[dt]|passphrase|passwd|pwd
       |kennwort|mot[ ]de[ ]passe|contraseña|pin(?:[ -]?code)?|cvv|seed[ ]phrase)
    (?:[ ](?:for|of|to|für|von|de)[ ](?:\S+[ ]){0,3}?\S+?)?
    \s*(?:\bis\b|\bist\b|\best\b|\bes\b|[:=])\s*
    ["'`]?(?=\S*\d|\S*[^\w\s.,;:!?)'"])\S{4,}
    | (?:密码|密碼|パスワード)\s*(?:是|は|[::=])?\s*[!-~]{4,}
    """,
    re.VERBOSE | re.IGNORECASE,
)


def has_secret(text: str) -> bool:
    """Whether `text` looks as if it held a key, a token or a password."""
    return bool(_KEYS.search(text) or _NAMED.search(text))


def mask_secrets(text: str) -> str:
    """`text` with `[secret]` for everything that looks like one."""
    return _NAMED.sub(_MASK, _KEYS.sub(_MASK, text))
