"""What a shell command is made of: its simple commands with their words, as a shell would see them.

A reader of the shell language (POSIX, "Shell Command Language", and what bash adds), not an interpreter of
it: quotes, escapes, brace lists, known variables and here-documents are resolved, and what only a run would
tell is UNKNOWN. The cost is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from nanobot.security.shell_text import CLOSE, COMMA, OPEN, QUOTED, SPACE, UNKNOWN, unescaped, words_of

DEEPEST = 25  # substitutions, quotes and scripts within each other

LONGEST_VALUE = 20_000  # characters of a variable that are followed
MOST_VALUES = 1_000_000  # characters that variables are replaced by, altogether
LONGEST_PIPE = 64  # commands
_MARKS = {"{": OPEN, ",": COMMA, "}": CLOSE}
_PLAIN = re.compile(r"[^\s;&|<>()\"'\\$`{},]+")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(?:\[[^\]]*\])?(\+?)=")
_NAME = re.compile(r"[A-Za-z_]\w*|[0-9@*#?$!-]")
_REDIRECT = re.compile(r"(\d*|&)(<<<|<<-?|>>|>\||<>|[<>]&?)")
_BEGIN = {"{", "if", "for", "while", "until", "case", "select"}
_END = {"}", "fi", "done", "esac"}
_BETWEEN = {"then", "do", "else", "elif", "!", "coproc"}
_PARAMETER = re.compile(r"([!#]?)([A-Za-z_]\w*|[0-9@*#?$!-]|)(\[[^\]}]*\])?(:?[-=+?]|)")
_DEFAULTS = ("-", ":-", "=", ":=")
_DECLARE = {"export", "declare", "local", "readonly", "typeset"}


class TooDeep(ValueError):
    """The command is nested too deeply to be read."""


@dataclass(eq=False)
class SimpleCommand:
    """`words`, the program first; `data` is given to its input; `sources` feed it through a pipe.

    `within`: commands of its substitutions. `inert`: what it prints goes to no other command. `functions`: in
    whose definition it stands. `concurrent`: beside others of a pipe, or after `&`.
    """

    words: list[str] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    data: str = ""
    sources: list[SimpleCommand] = field(default_factory=list)
    within: list[SimpleCommand] = field(default_factory=list)
    inert: bool = True
    functions: tuple[str, ...] = ()
    concurrent: bool = False


def read_commands(text: str, variables: Mapping[str, str], depth: int = 0) -> list[SimpleCommand]:
    """Every simple command in `text`, those of substitutions included. Raises TooDeep."""
    reader = _Reader(re.sub("[\0-\5]", "", text).replace("\\\n", ""), dict(variables), depth)
    reader.script("")
    return reader.found


class _Script:
    """The commands of one script while it is read: where they stand, and what feeds what."""

    def __init__(self, found: list[SimpleCommand], variables: dict[str, str]) -> None:
        self._found = found
        self._variables = variables
        self._pipe: list[SimpleCommand] = []  # whose output the next command gets
        self._groups: list[
            tuple[str, int, str]
        ] = []  # word that began it, first command, function it defines
        self._closed: int | None = None  # first command of the group that has just ended
        self.function = ""  # of the group that comes next
        self._loop: list[str] | None = None  # what follows `for`
        self.assigned = ""  # the variable that was set last
        self._skips = ""  # after `case`: its word, or a pattern
        self.command = SimpleCommand()

    @property
    def in_parentheses(self) -> bool:
        return self._skips == "pattern" or any(sign == "(" for sign, _, _ in self._groups)

    def add(self, word: str) -> None:
        text = word.replace(QUOTED, "")
        if self._skips:
            if text == "esac":
                self._close()
            self._skips = "pattern" if text == "in" else "" if text == "esac" else self._skips
        elif self._loop is not None:
            self._loop.append(text)
        elif self.command.words or not self._is_syntax(text, plain=word == text):
            self.command.words.append(text)
            self._closed = None

    def _is_syntax(self, text: str, *, plain: bool) -> bool:
        """Whether the first word of a command is none of its program. Not `plain`: some of it is quoted."""
        assignment = _ASSIGNMENT.match(text)
        if assignment:
            self.assign(assignment[1], text[assignment.end() :], more=bool(assignment[2]))
        elif not plain:
            return False
        elif self.function == "function":
            self.function = text
        elif text in _BEGIN:
            self._groups.append((text, len(self._found), self.function))
            self.function = ""
            self._loop = [] if text in ("for", "select") else None
            self._skips = "word" if text == "case" else ""
        elif text in _END:
            self._close()
        elif text == "function":
            self.function = text
        else:
            return text in _BETWEEN
        return True

    def _close(self) -> None:
        if self._groups:
            self._closed = self._groups.pop()[1]

    def assign(self, name: str, value: str, *, more: bool = False) -> None:
        self.assigned = name
        value = (self._variables.get(name, "") if more else "") + value
        self._variables[name] = value if len(value) <= LONGEST_VALUE else UNKNOWN

    def finish(self, sign: str) -> None:
        """Take note of the command that ends at `sign`."""
        if self._skips == "pattern":
            self._skips = "" if sign == ")" else "pattern"
            return
        command, self.command = self.command, SimpleCommand()
        if self._loop:
            self.assign(self._loop[0], " ".join(self._loop[2:]))
        self._loop = None
        if command.words or command.writes or command.reads or command.data or command.within:
            if command.words and command.words[0] in _DECLARE:
                for found in filter(None, map(_ASSIGNMENT.match, command.words[1:])):
                    self.assign(found[1], found.string[found.end() :])
            command.functions = tuple(function for _, _, function in self._groups if function)[-LONGEST_PIPE:]
            command.sources = [*self._pipe]
            command.inert = sign not in ("|", "|&")
            command.concurrent = bool(self._pipe) or sign in ("|", "|&", "&")
            self._found.append(command)
            self._closed = None
        if sign in ("|", "|&"):
            self._pipe += self._found[self._closed :] if self._closed is not None else [command]
            for one in self._pipe:
                one.inert = False
            if len(self._pipe) > LONGEST_PIPE:
                raise TooDeep
        elif sign:
            self._pipe = []
        if sign == "(":
            self._groups.append((sign, len(self._found), self.function))
            self.function = ""
        elif sign == ")":
            self._close()
        elif sign == ";;" and self._groups and self._groups[-1][0] == "case":
            self._skips = "pattern"


class _Reader:
    def __init__(self, text: str, variables: dict[str, str], depth: int) -> None:
        self._text = text
        self._at = 0
        self._depth = depth
        self._variables = variables
        self._room = MOST_VALUES
        self.found: list[SimpleCommand] = []
        self._waiting: list[tuple[SimpleCommand, str, bool, bool]] = []  # for the text of a here-document

    def script(self, end: str) -> None:
        """Read commands up to `end`, a closing parenthesis or nothing."""
        script = _Script(self.found, self._variables)
        self._deeper(1)
        while self._at < len(self._text):
            sign = self._text[self._at]
            redirect = _REDIRECT.match(self._text, self._at)
            before = len(self.found)
            if redirect and not self._text.startswith(("<(", ">("), self._at):
                self._at = redirect.end()
                self._redirect(script, redirect[2])
            elif sign.isspace() and sign != "\n":
                self._at += 1
            elif sign == "#":
                self._at = self._find("\n")
            elif sign == ")" and end == ")" and not script.in_parentheses:
                self._at += 1
                break
            elif sign in "\n;&|()":
                self._operator(script, sign)
                continue
            else:
                for word in self._word():
                    script.add(word)
            for nested in self.found[before:]:
                nested.inert = False
                script.command.within.append(nested)
        script.finish("")
        self._deeper(-1)

    def _operator(self, script: _Script, sign: str) -> None:
        operator = sign * (1 + (sign in ";&|" and self._text.startswith(sign * 2, self._at)))
        operator = "|&" if self._text.startswith("|&", self._at) else operator
        self._at += len(operator)
        words = script.command.words
        if sign == "(" and len(words) == 1 and self._text[self._at : self._at + 20].lstrip().startswith(")"):
            script.function = words.pop()
            self._at = self._find(")") + 1
        elif sign == "(" and self._text[self._at - 2 : self._at - 1] == "=":
            script.assign(script.assigned, " ".join(self._list()).replace(QUOTED, ""))
        else:
            script.finish(operator)
        if sign == "\n":
            self._here_documents()

    def _list(self) -> list[str]:
        """The values of an array, up to its parenthesis."""
        words: list[str] = []
        while self._at < len(self._text) and self._text[self._at] != ")":
            more = self._word()
            words += more
            self._at += not more
        self._at += 1
        return words

    def _redirect(self, script: _Script, operator: str) -> None:
        while self._at < len(self._text) and self._text[self._at] in " \t":
            self._at += 1
        start = self._at
        words = self._word() if self._text[start : start + 1] not in [*"\n;&|()"] else []
        words = [word.replace(QUOTED, "") for word in words]
        command = script.command
        if operator == "<<<":
            command.data += " ".join(words) + "\n"
        elif operator.startswith("<<"):
            raw = self._text[start : self._at]
            quoted = any(sign in raw for sign in "'\"\\")
            self._waiting.append((command, re.sub(r"['\"\\]", "", raw), quoted, operator == "<<-"))
        elif operator.startswith("<"):
            command.reads += words
        else:
            command.writes += words

    def _here_documents(self) -> None:
        for command, delimiter, quoted, tabs in self._waiting:
            start = end = self._at
            while end < len(self._text):
                stop = self._text.find("\n", end)
                stop = len(self._text) if stop < 0 else stop
                line = self._text[end:stop]
                self._at = stop + 1
                if (line.lstrip("\t") if tabs else line) == delimiter:
                    break
                end = stop + 1
            body = self._text[start:end]
            command.data += body if quoted else self._inner(body, command)
        self._waiting.clear()

    def _inner(self, body: str, command: SimpleCommand) -> str:
        """A text in which only substitutions are carried out."""
        reader = _Reader(body, self._variables, self._depth)
        parts = reader._quoted("")
        for nested in reader.found:
            nested.inert = False
        command.within += reader.found
        self.found += reader.found
        return "".join(parts)

    def _word(self) -> list[str]:
        """The words that the next one becomes: several by brace lists and by what a variable holds."""
        parts: list[str] = []
        while self._at < len(self._text):
            sign = self._text[self._at]
            if plain := _PLAIN.match(self._text, self._at):
                self._at = plain.end()
                parts.append(plain[0])
            elif sign in "<>" and self._text.startswith("(", self._at + 1):
                self._at += 2
                self.script(")")
                parts.append(UNKNOWN)
            elif sign in " \t\r\n;&|<>()":
                break
            else:
                self._at += 1
                parts += self._special(sign)
        return words_of("".join(parts))

    def _special(self, sign: str) -> list[str]:
        if sign == "\\":
            self._at += 1
            return [self._text[self._at - 1 : self._at]]
        if sign == "'":
            start, end = self._at, self._find("'")
            self._at = end + 1
            return [self._text[start:end], QUOTED]
        if sign == '"':
            return [*self._quoted('"'), QUOTED]
        if sign == "$":
            return self._dollar(quoted=False)
        return [self._backticks()] if sign == "`" else [_MARKS[sign]]

    def _quoted(self, end: str) -> list[str]:
        """Up to the closing quote."""
        parts: list[str] = []
        self._deeper(1)
        special = re.compile(r'["$`\\]' if end else r"[$`\\]")
        while found := special.search(self._text, self._at):
            parts.append(self._text[self._at : found.start()])
            self._at = found.end()
            if found[0] == end:
                break
            if found[0] == "\\":
                escaped = self._text[self._at : self._at + 1]
                parts.append(escaped if escaped in '"$`\\' else f"\\{escaped}")
                self._at += 1
            else:
                parts += self._dollar(quoted=True) if found[0] == "$" else [self._backticks()]
        else:
            parts.append(self._text[self._at :])
            self._at = len(self._text)
        self._deeper(-1)
        return parts

    def _dollar(self, *, quoted: bool) -> list[str]:
        following = self._text[self._at : self._at + 1]
        if following == "'" and not quoted:
            found = re.compile(r"'((?:[^'\\]|\\.)*)'?", re.S).match(self._text, self._at)
            assert found is not None
            self._at = found.end()
            return [unescaped(found[1]), QUOTED]
        if following == '"' and not quoted:
            self._at += 1
            return [*self._quoted('"'), QUOTED]
        if following == "(":
            self._at += 1
            self.script(")")
            return [UNKNOWN]
        if following == "{":
            self._at += 1
            return [self._parameter(quoted)]
        name = _NAME.match(self._text, self._at)
        if name is None:
            return ["$"]
        self._at = name.end()
        return [self._value(name[0], quoted)]

    def _parameter(self, quoted: bool) -> str:
        """`${name}`, `${name:-word}` and their kin."""
        self._deeper(1)
        found = _PARAMETER.match(self._text, self._at)
        assert found is not None
        self._at = found.end()
        name, operator = found[2] or "", found[4]
        quoted = quoted and found[3] not in ("[@]", "[*]")
        rest: list[str] = []
        while self._at < len(self._text) and self._text[self._at] != "}":
            sign = self._text[self._at]
            plain = _PLAIN.match(self._text, self._at)
            self._at = plain.end() if plain else self._at + 1
            special = (
                self._special(sign)
                if sign in "\\'\"$`"
                else [SPACE if sign.isspace() and not quoted else sign]
            )
            rest += [plain[0]] if plain else special
        self._at += 1
        self._deeper(-1)
        known = name in self._variables
        if name == "IFS" or (not operator and not rest and not found[1]) or (known and operator in _DEFAULTS):
            return self._value(name, quoted)
        return "".join(rest) if operator in (*_DEFAULTS, "+", ":+") else UNKNOWN

    def _value(self, name: str, quoted: bool) -> str:
        if name == "IFS":
            return " " if quoted else SPACE
        value = self._variables.get(name, UNKNOWN)
        self._room -= len(value)
        value = value if self._room > 0 else UNKNOWN
        return value if quoted else re.sub(r"\s", SPACE, value)

    def _backticks(self) -> str:
        found = re.compile(r"((?:[^`\\]|\\.)*)`?", re.S).match(self._text, self._at)
        assert found is not None
        self._at = found.end()
        inside = _Reader(re.sub(r"\\([`\\$])", r"\1", found[1]), self._variables, self._depth)
        inside.script("")
        self.found += inside.found
        return UNKNOWN

    def _find(self, sign: str) -> int:
        at = self._text.find(sign, self._at)
        return len(self._text) if at < 0 else at

    def _deeper(self, by: int) -> None:
        self._depth += by
        if self._depth > DEEPEST:
            raise TooDeep
