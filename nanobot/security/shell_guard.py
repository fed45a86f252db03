"""What a shell command may not do, as far as its text shows.

This is a courtesy guard against accidents and plain disobedience, not a boundary: a shell has endless
spellings. The sandbox is the boundary. Judged are the commands of the text (`shell_words`), not its words:
what is quoted, searched for or written down may say anything.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path

from nanobot.errors import AccessDenied, ToolError
from nanobot.security.files import PathPolicy, Zone
from nanobot.security.shell_rules import (
    DEEPEST,
    INTERPRETER,
    JOINED,
    SHELL,
    TAKE_C,
    TEXT_PROGRAMS,
    WRAPPERS,
    after_options,
    code_of,
    code_reason,
    death_reason,
    decodes,
    printed,
    program_of,
    program_reason,
    unwrapped,
)
from nanobot.security.shell_text import UNKNOWN
from nanobot.security.shell_words import SimpleCommand, TooDeep, read_commands

GLOB_CHARS = 100
PATH_CHARS = 4096
MORE_TEXT = 20_000  # characters of scripts within a command that are read, beside four times its own

_PATTERN_PROGRAMS = re.compile(r"[efrz]?grep|rg|ag|ack|g?sed|[gmn]?awk|jq")  # their first one is
_WRITES_LAST = {"cp", "ln", "rsync", "install"}
_WRITES_ALL = {"mv", "tee", "touch", "mkdir", "rm", "rmdir", "curl", "wget", "unzip"}
_IN_PLACE = re.compile(r"-[a-zA-Z]*i|--in-place")
_DISK = re.compile(r"/dev/(?:sd|hd|vd|nvme|mmcblk|disk)")
_HARMLESS = {Path(path) for path in ("/dev/null", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/tcp")}
_PROGRAM_FOLDERS = {Path(path) for path in ("/bin", "/usr/bin", "/usr/local/bin")}


def check_command(command: str, paths: PathPolicy, folder: Path) -> None:
    """Raise AccessDenied when `command`, run in `folder`, must not run.

    Refused are: the destructive commands of the deny list in common disguises, killing nanobot itself,
    naming nanobot's own files, writing to protected folders, and, with `paths.restrict`, naming anything
    outside the workspace.
    """
    variables = {"HOME": str(Path.home()), "PWD": str(folder), "PPID": str(os.getpid())}
    guard = _Guard(paths, folder, variables, MORE_TEXT + 4 * len(command))
    try:
        reason = guard.script(command, 0)
    except TooDeep:
        reason = "is nested too deeply to be read"
    if reason:
        raise AccessDenied(
            f"Command refused: it {reason}. Do it another way, or ask the owner to run it in a terminal."
        )


class _Guard:
    def __init__(self, paths: PathPolicy, folder: Path, variables: dict[str, str], room: int) -> None:
        self._paths = paths
        self._folder = folder
        self._variables = variables
        self._room = room

    def script(self, text: str, depth: int) -> str:
        """Why this text may not run in a shell; empty when it may."""
        self._room -= len(text)  # a text may be given to many shells, and hold such texts itself
        if depth > DEEPEST or self._room < 0:
            raise TooDeep
        commands = read_commands(text, self._variables, depth)
        decoded = {path for one in commands if decodes(one) for path in one.writes}
        names_nanobot = any("nanobot" in word.lower() for one in commands for word in one.words)
        for one in commands:
            reason = self._paths_reason(one)
            for words in [] if reason else unwrapped(one):
                program, arguments = program_of(words[0]), words[1:]
                reason = (
                    program_reason(program, arguments)
                    or death_reason(program, arguments, one, names_nanobot)
                    or self._runs_text(program, arguments, one, decoded, depth)
                )
                if reason:
                    break
            if not reason and one.words and one.concurrent and one.words[0] in one.functions:
                reason = "is a fork bomb"
            if reason:
                return reason
        return ""

    def _runs_text(
        self, program: str, arguments: list[str], one: SimpleCommand, decoded: set[str], depth: int
    ) -> str:
        """Shells, interpreters and their kin: the text they are given to run is judged as well."""
        shell = SHELL.fullmatch(program) is not None
        plain = [word for word in arguments if not word.startswith("-")]
        flags = [word for word in arguments if word.startswith("-")]
        scripts: list[str] = []
        if program in JOINED or (program == "env" and flags):
            after = after_options(arguments, *WRAPPERS[program]) if program in WRAPPERS else arguments
            scripts = [" ".join(after)]
        elif program == "trap":
            scripts = plain[:1]
        elif program == "alias":
            scripts = [word.partition("=")[2] for word in plain]
        elif any("c" in flag and not flag.startswith("--") for flag in flags) and (
            shell or program in TAKE_C
        ):
            scripts = plain[:2] if shell else plain
        elif not shell and not INTERPRETER.fullmatch(program):
            return ""
        from_input = not (plain if shell else arguments) or not {"-", "-s", "/dev/stdin"}.isdisjoint(
            arguments
        )
        sources = one.sources if from_input else []
        if any(map(decodes, [*(one.within if scripts or shell else []), *sources])):
            return "runs text that it decodes first"
        if not decoded.isdisjoint(plain):
            return "runs a file that it decodes first"
        texts = [*scripts, *([one.data] if from_input else []), *map(printed, sources)]
        if not shell and not scripts:
            return code_reason("\n".join([code_of(one), *texts]))
        reasons = (self.script(text, depth + 1) for text in texts if text.strip(" \n" + UNKNOWN))
        written = (code_reason(f"system {text}") for text in map(code_of, sources) if text)
        return next(filter(None, chain(reasons, written)), "")

    def _paths_reason(self, one: SimpleCommand) -> str:
        for word, strict in self._named_paths(one):
            try:
                real = self._paths.resolve(word, self._folder)
                if not strict and not (real.exists() and len(real.parts) > 2):
                    continue
            except (ToolError, OSError):
                continue
            if self._paths.zone(real) is Zone.PRIVATE or self._pattern_reaches_private(word):
                return f"names files of nanobot itself ({word})"
            if self._paths.restrict and self._paths.zone(real) is Zone.OUTSIDE and not _harmless(Path(word)):
                return f"names {word}, which is outside the workspace {self._paths.workspace}"
        if self._paths.restrict and one.words in (["cd"], ["cd", "-"]):
            return "leaves the workspace (cd without a folder)"
        return self._writing_reason(one)

    def _named_paths(self, one: SimpleCommand) -> Iterator[tuple[str, bool]]:
        """What may be a path in a command; and whether it is one, or only stands in a text."""
        texts = _texts(one) if one.inert else set()
        for position, word in enumerate([*one.words, *one.reads, *one.writes]):
            for path in _path_words(word):
                yield path, position not in texts
        runs = one.words and (
            SHELL.fullmatch(program_of(one.words[0])) or INTERPRETER.fullmatch(program_of(one.words[0]))
        )
        for path in _path_words(one.data):
            yield path, bool(runs)

    def _pattern_reaches_private(self, word: str) -> bool:
        """Whether a glob such as `~/.nano*/config.json` covers a private folder."""
        if len(word) > 10 * GLOB_CHARS or not any(sign in word for sign in "*?["):
            return False
        parts = Path(word).expanduser().parts
        return any(
            len(parts) >= len(root.parts)
            and parts[: len(root.parts)] != root.parts
            and all(map(fnmatchcase, root.parts, parts))
            for root in self._paths.private
        )

    def _writing_reason(self, one: SimpleCommand) -> str:
        """`> skills/x/SKILL.md`, `cp -r draft skills/`, `> /dev/sda`: what a command writes to."""
        targets = list(one.writes)
        for words in unwrapped(one):
            program = program_of(words[0])
            if program in _WRITES_LAST or (program == "git" and "clone" in words[1:3]):
                targets += words[-1:]
            elif program in _WRITES_ALL or (
                program in ("sed", "perl") and any(map(_IN_PLACE.fullmatch, words))
            ):
                targets += words[1:]
        if any(map(_DISK.match, targets)):
            return "writes to a disk device"
        for word in (path for target in targets for path in _path_words(target)):
            with suppress(ToolError):
                if self._paths.zone(self._paths.resolve(word, self._folder)) is Zone.PROTECTED:
                    return f"writes to {word}, which only the owner changes (write a draft below drafts/)"
        return ""


def _texts(one: SimpleCommand) -> set[int]:
    """Which words of a command are text or patterns, so that what looks like a path there is none."""
    program = program_of(one.words[0]) if one.words else ""
    if program in TEXT_PROGRAMS:
        return set(range(1, len(one.words)))
    if program == "git":
        return {
            n
            for n, word in enumerate(one.words)
            if one.words[n - 1] in ("-m", "--message", "-am", "-S", "-G")
        }
    if _PATTERN_PROGRAMS.fullmatch(program):
        given = [n for n, word in enumerate(one.words) if one.words[n - 1] in ("-e", "--regexp")]
        return {*(given or [n for n, word in enumerate(one.words) if n and not word.startswith("-")][:1])}
    return set()


def _path_words(text: str) -> Iterator[str]:
    """Every part of a word that may be a path. UNKNOWN parts are left out."""
    without_urls = re.sub(r"\b(?!file:)[a-z][\w+.-]{0,20}://\S*", " ", text, flags=re.IGNORECASE)
    for word in dict.fromkeys(re.split(r"[\s<>|;&(){}=,:`'\"]+", without_urls)):
        path = re.sub(r"^(?:-\w)?@?(?=[/~.])", "", word)  # -d@FILE, as curl reads a file
        if (
            path
            and len(path) <= PATH_CHARS
            and not path.startswith("-")
            and UNKNOWN not in path
            and "$" not in path
        ):
            yield path


def _harmless(path: Path) -> bool:
    return path in _HARMLESS or path.parent in _PROGRAM_FOLDERS
