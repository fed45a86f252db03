"""Questions of a wizard, one line each. An empty answer takes the default; Ctrl-D leaves like Ctrl-C."""

from __future__ import annotations

import getpass
from collections.abc import Sequence

from nanobot.cli.screen import clean


def ask(question: str, default: str = "") -> str:
    """A line of text."""
    hint = f" [{default}]" if default else ""
    return clean(input(f"{question}{hint}: ")).strip() or default


def ask_hidden(question: str) -> str:
    """A line that is not shown while it is typed or pasted."""
    return clean(getpass.getpass(f"{question}: ")).strip()


def ask_yes(question: str, *, default: bool) -> bool:
    answer = ask(f"{question} ({'Y/n' if default else 'y/N'})").lower()
    return answer.startswith("y") if answer else default


def choose(question: str, titles: Sequence[str], default: int) -> int:
    """The place of the chosen title; asked again until the answer is a number or the start of one title."""
    for number, title in enumerate(titles, start=1):
        print(f"{number:>3}  {clean(title)}")
    while True:
        answer = ask(question, str(default + 1)).lower()
        if answer.isdecimal() and 0 < int(answer) <= len(titles):
            return int(answer) - 1
        matches = [place for place, title in enumerate(titles) if title.lower().startswith(answer)]
        if len(matches) == 1:
            return matches[0]
        print(f"Please answer with a number from 1 to {len(titles)}.")
