"""Words of a shell: what is taken away from them, and what they become several words by."""

from __future__ import annotations

import re

UNKNOWN = "\0"  # any text: the value of a variable, the output of a command
BRACES = 64  # words that a brace list may become
# In a word: braces and spaces that mean something, as they are not quoted; and after what is quoted.
OPEN, COMMA, CLOSE, SPACE, QUOTED = "\1\2\3\4\5"
_GROUP = re.compile(f"{OPEN}([^{OPEN}{CLOSE}]*){CLOSE}")
_ANSI_C = re.compile(
    r"\\(?:x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{1,4})|U([0-9A-Fa-f]{1,8})|([0-7]{1,3})|(.))", re.S
)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "a": "", "b": "", "e": "", "E": "", "f": "\f", "v": "\v"}


def unescaped(text: str) -> str:
    r"""What `$'…'`, `printf` and `echo -e` make of `\x72`, `\162`, `\u0072` and `\n`."""

    def character(found: re.Match[str]) -> str:
        number = int(found[1] or found[2] or found[3] or "0", 16) or int(found[4] or "0", 8)
        return chr(min(number, 0x10FFFF)) if number else _LETTERS.get(found[5] or "", found[5] or "")

    return _ANSI_C.sub(character, text)


def words_of(text: str) -> list[str]:
    """The words that an unquoted text becomes. Each still says whether something in it was quoted."""
    if not any(mark in text for mark in (OPEN, SPACE)):
        return [text.replace(COMMA, ",").replace(CLOSE, "}")] if text else []
    return [word for piece in text.split(SPACE) if piece for word in _without_braces(piece)]


def _without_braces(word: str) -> list[str]:
    done: list[str] = []
    waiting = [_GROUP.sub(lambda group: group[0] if COMMA in group[0] else f"{{{group[1]}}}", word)]
    while waiting:
        one = waiting.pop()
        group = _GROUP.search(one)
        if group is None:
            done.append(one.replace(OPEN, "{").replace(COMMA, ",").replace(CLOSE, "}"))
            continue
        before, after = one[: group.start()], one[group.end() :]
        several = group[1].split(COMMA)
        if len(several) == 1:
            several = [f"{{{group[1]}}}"]
        elif len(several) + len(waiting) + len(done) > BRACES and before + after:
            return [*done, UNKNOWN]
        waiting += [before + choice + after for choice in reversed(several)]
    return done
