"""The environment of child processes, built from an allow-list: no key or token is ever inherited."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

_ALLOWED = re.compile(
    r"PATH|HOME|LANG|LANGUAGE|LC_\w+|TERM|COLORTERM|NO_COLOR|TZ|USER|LOGNAME|SHELL|TMPDIR|TMP|TEMP"
    r"|VIRTUAL_ENV|SSL_CERT_(FILE|DIR)|NO_PROXY|no_proxy"
)
_PROXY = re.compile(r"(https?|all)_proxy", re.IGNORECASE)

# For programs that nobody sits in front of: editors, pagers and questions end at once. No colours either.
UNATTENDED: Mapping[str, str] = {
    "TERM": "dumb",
    "COLORTERM": "",
    "NO_COLOR": "1",
    **dict.fromkeys(("PAGER", "GIT_PAGER", "MANPAGER", "SYSTEMD_PAGER"), "cat"),
    **dict.fromkeys(("EDITOR", "VISUAL", "GIT_EDITOR", "GIT_SEQUENCE_EDITOR"), "true"),
    "GIT_TERMINAL_PROMPT": "0",
    "GCM_INTERACTIVE": "never",
    "SSH_ASKPASS_REQUIRE": "never",
    "DEBIAN_FRONTEND": "noninteractive",
    "PIP_NO_INPUT": "1",
    "VIMINIT": "set shortmess+=A | autocmd VimEnter * cquit",  # what -c asks for is done before
    "PYTHONUNBUFFERED": "1",  # what a program in the background says can be read at once
}


def child_environment(extra: Iterable[str] = (), source: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables a child may see, taken from `source` (the process environment).

    `extra` are names the owner allowed by configuration. NANOBOT_* is never passed on, and a proxy
    address only when it carries no user name and password.
    """
    variables = os.environ if source is None else source
    names = frozenset(extra)
    chosen = {name: value for name, value in variables.items() if _may_pass(name, value, names)}
    chosen.setdefault("PATH", os.defpath)
    return chosen


def _may_pass(name: str, value: str, names: frozenset[str]) -> bool:
    if name.upper().startswith("NANOBOT_"):
        return False
    if name in names or _ALLOWED.fullmatch(name):
        return True
    return _PROXY.fullmatch(name) is not None and "@" not in value
