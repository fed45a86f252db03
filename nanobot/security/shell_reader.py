"""The simple commands in a shell text, as far as the text shows them.

A reader of the shell language (POSIX, "Shell Command Language", and what bash adds) that is flat: what stands
in a substitution, a group, a loop or a function is one more command of the list. Quotes, escapes, brace
lists, variables and here-documents are resolved; what only a run would tell is UNKNOWN. Linear in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

UNKNOWN = "\0"  # any text: the value of a variable, the output of a command
_SPACE, _OPEN, _COMMA, _CLOSE = "\1\2\3\4"  # in a word: what separates, as it is not quoted
_PLAIN = str.maketrans({_OPEN: "{", _COMMA: ",", _CLOSE: "}"})
_MARKS = {"{": _OPEN, ",": _COMMA, "}": _CLOSE}
_GROUP = re.compile(f"{_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}")

DEEPEST = 100  # quotes, substitutions and groups within each other
MOST_VALUES = 1_000_000  # characters that variables and brace lists become, altogether
LONGEST_VALUE = 20_000  # characters of a variable that are followed

_EXPANSIONS = r"""
  | (?P<sign>`) | \$(?P<name>[A-Za-z_]\w*|[0-9@*\#?$!-])
  | \$\{ [!\#]? (?P<parameter>\w*|[@*?$!-]) (?P<default>[^{}`$]*) } | (?P<substitution>\$\()
"""
_BARE = re.compile(
    r"""(?P<redirect>(?:\d*|&)(?:<<<|<<-?|>>|>\||<>|[<>]&?)(?!\()) | (?P<plain>[^\s;&|<>()"'\\$`{},]+)
  | \\(?P<escaped>.?) | '(?P<raw>[^']*)'? | \$'(?P<ansi>(?:[^'\\]|\\.)*)'? | \$?(?P<quote>")
  | (?P<mark>[{},]) | (?P<space>[^\S\n]+) | (?P<operator>\n|;;?|&&?|\|[|&]?)"""
    + _EXPANSIONS
    + r"| (?P<group>[<>]?\() | (?P<close>\)) | (?P<other>.)",
    re.VERBOSE | re.DOTALL,
)
_QUOTED = re.compile(
    r"""(?P<raw>[^"$`\\]+) | \\(?P<escaped>["$`\\]) | (?P<quote>")""" + _EXPANSIONS + "| (?P<other>.)",
    re.VERBOSE | re.DOTALL,
)
_DELIMITER = re.compile(r"""[ \t]*((?:'[^']*'|"[^"]*"|[^\s;&|<>()])*)""")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)\+?=")
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{1,4})|([0-7]{1,3})|(.))", re.DOTALL)
_SYNTAX = {"if", "then", "elif", "else", "fi", "while", "until", "do", "done", "esac", "}", "!"}


class TooDeep(ValueError):
    """The command is nested too deeply to be read."""


@dataclass(eq=False)
class SimpleCommand:
    """`words`, the program first; the files it `writes` and `reads` by redirection; `data` for its input."""

    words: list[str] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    data: str = ""


def read_commands(text: str, variables: dict[str, str]) -> list[SimpleCommand]:
    """Every simple command in `text`; `variables` learns what the text assigns. Raises TooDeep."""
    return _Reader(re.sub("[\0-\4]", "", text).replace("\\\n", ""), variables).read()


def unescaped(text: str) -> str:
    r"""What `$'…'`, `printf` and `echo -e` make of `\x72`, `\162`, `\u0072` and `\n`."""

    def character(found: re.Match[str]) -> str:
        number = int(found[1] or found[2] or "0", 16) or int(found[3] or "0", 8)
        return chr(number) if number else {"n": "\n", "t": "\t"}.get(found[4] or "", found[4] or "")

    return _ESCAPE.sub(character, text)


@dataclass(eq=False)
class _Level:
    """What has begun and is not closed: a script, or a text in quotes."""

    closer: str = ""
    parts: list[str] = field(default_factory=list)  # of the word that is read
    command: SimpleCommand = field(default_factory=SimpleCommand)
    redirect: str = ""  # whose word comes next
    pipe: int = 0  # the first command of the pipe


class _Reader:
    def __init__(self, text: str, variables: dict[str, str]) -> None:
        self._text = text
        self._variables = variables
        self._at = 0
        self._room = MOST_VALUES
        self._levels = [_Level()]
        self._found: list[SimpleCommand] = []
        self._waiting: list[tuple[SimpleCommand, str, bool]] = []  # for the text of a here-document

    def read(self) -> list[SimpleCommand]:
        while self._at < len(self._text):
            level = self._levels[-1]
            token = (_QUOTED if level.closer == '"' else _BARE).match(self._text, self._at)
            assert token is not None
            self._at = token.end()
            self._take(level, token, token.lastgroup or "")
        while len(self._levels) > 1:
            self._close()
        self._end_command(self._levels[0], "")
        return self._found

    def _take(self, level: _Level, token: re.Match[str], kind: str) -> None:
        found = token[kind]
        if kind == "plain" and found[0] == "#" and not level.parts:  # a comment
            end = self._text.find("\n", self._at)
            self._at = end if end >= 0 else len(self._text)
        elif kind in ("plain", "escaped", "raw", "mark", "other"):
            level.parts.append(_MARKS.get(found, found) if kind == "mark" else found)
        elif kind == "ansi":
            level.parts.append(unescaped(found))
        elif kind in ("name", "default"):
            word = found.lstrip(":=+-") if kind == "default" else ""
            level.parts.append(self._value(token[kind if kind == "name" else "parameter"], word, level))
        elif kind in ("substitution", "group") or (kind in ("quote", "sign") and level.closer != found):
            if len(self._levels) > DEEPEST:
                raise TooDeep
            self._levels.append(_Level(")" if "(" in found else found, pipe=len(self._found)))
        elif kind in ("quote", "sign") or (kind == "close" and level.closer == ")"):
            self._close()
        elif kind == "redirect":
            self._end_word(level)
            self._redirect(level, found.lstrip("0123456789&"))
        elif kind == "space":
            self._end_word(level)
        else:
            self._end_command(level, found)

    def _close(self) -> None:
        level, around = self._levels.pop(), self._levels[-1]
        if level.closer == '"':
            around.parts += level.parts
        else:
            self._end_command(level, "")
            around.parts.append(UNKNOWN)

    def _value(self, name: str, default: str, level: _Level) -> str:
        value = self._variables.get(name, default or UNKNOWN)
        self._room -= len(value)
        value = value if self._room > 0 else UNKNOWN
        return value if level.closer == '"' else re.sub(r"\s", _SPACE, value)

    def _redirect(self, level: _Level, operator: str) -> None:
        in_arithmetic = [around.closer for around in self._levels[-2:]] == [")", ")"]  # $((1 << 3))
        if operator in ("<<", "<<-") and not in_arithmetic:
            found = _DELIMITER.match(self._text, self._at)
            assert found is not None
            self._at = found.end()
            self._waiting.append((level.command, found[1], operator == "<<-"))
        else:
            level.redirect = operator

    def _end_word(self, level: _Level) -> None:
        text, level.parts = "".join(level.parts), []
        if not text:
            return
        command, redirect, level.redirect = level.command, level.redirect, ""
        words = self._words(text)
        assignment = _ASSIGNMENT.match(text)
        if redirect == "<<<":
            command.data += " ".join(words) + "\n"
        elif redirect:
            (command.reads if redirect.startswith("<") else command.writes).extend(words)
        elif text == _OPEN:  # what is before it names a function
            self._end_command(level, "{")
        elif assignment and not command.words:
            self._assign(assignment[1], text[assignment.end() :].translate(_PLAIN))
        elif command.words or not words or words[0] not in _SYNTAX:
            command.words += words

    def _words(self, text: str) -> list[str]:
        """The words that an unquoted text becomes: by what variables hold, and by a brace list."""
        words: list[str] = []
        for word in text.split(_SPACE):
            group = _GROUP.search(word)
            choices = group[1].split(_COMMA) if group else [""]
            self._room -= len(choices) * len(word)
            if group and len(choices) > 1:
                around = word[: group.start()], word[group.end() :]
                words += [choice.join(around) for choice in choices] if self._room > 0 else [UNKNOWN]
            else:
                words.append(word)
        return [word.translate(_PLAIN) for word in words if word]

    def _assign(self, name: str, value: str) -> None:
        value = value.replace(_SPACE, " ")
        self._variables[name] = value if len(value) <= LONGEST_VALUE else UNKNOWN

    def _end_command(self, level: _Level, sign: str) -> None:
        self._end_word(level)
        command, level.command = level.command, SimpleCommand()
        if command.words[:1] == ["for"] and len(command.words) > 1:
            self._assign(command.words[1], " ".join(command.words[3:]))
        if command.words or command.writes or command.reads:
            self._found.append(command)
        if sign == ")":  # of a pattern: case $x in a|b)
            del self._found[level.pipe :]
        if sign not in ("|", "|&"):
            level.pipe = len(self._found)
        if sign == "\n":
            self._documents()

    def _documents(self) -> None:
        """Read the here-documents that begin with this line."""
        waiting, self._waiting = self._waiting, []
        for command, raw, tabs in waiting:
            delimiter = re.sub(r"['\"\\]", "", raw)
            indent = r"\t*" if tabs else ""
            last = re.compile(f"^{indent}{re.escape(delimiter)}$", re.MULTILINE).search(self._text, self._at)
            body = self._text[self._at : last.start() if last else None]
            self._at = last.end() if last else len(self._text)
            command.data += body
            if raw == delimiter:  # its substitutions are carried out
                self._found.append(SimpleCommand(["eval", 'echo "{}"'.format(body.replace('"', ""))]))
