"""What a shell command may not do, as far as its text shows.

This is a courtesy guard against accidents and plain disobedience, not a boundary: a shell has endless
spellings. The sandbox is the boundary.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from nanobot.errors import AccessDenied, ToolError
from nanobot.security.files import PathPolicy, Zone

GLOB_CHARS = 100
PATH_CHARS = 4096

# Words that run the rest of their segment, so that every later word may be the command.
_WRAPPER = re.compile(
    r"sudo|doas|su|env|nohup|time|timeout|nice|ionice|setsid|stdbuf|xargs|find|(ba|da|z|k|a)?sh|eval|exec|command"
    r"|builtin|busybox|watch|strace|ssh|chroot|unshare|systemctl|parallel|then|do|else|if|elif|while|until|!"
    r"|python3?|perl|ruby|node"
)
_SHELL = re.compile(r"(ba|da|z|k|a)?sh|eval|source|\.")
_DECODER = re.compile(r"base64|base32|xxd|openssl|uudecode")
_WRITES_LAST = {"cp", "ln", "rsync", "install"}
_WRITES_ALL = {"mv", "tee", "touch", "mkdir", "rm", "rmdir", "curl", "wget", "unzip"}
_EDITS_IN_PLACE = re.compile(r"(?:\S*/)?(?:sed|perl)(?: \S+)*? (?:-[a-zA-Z]*i|--in-place)")
_POWER = {"shutdown", "reboot", "poweroff", "halt"}
_KILLERS = {"kill", "pkill", "killall", "skill"}
_HARMLESS = {Path(path) for path in ("/dev/null", "/dev/stdin", "/dev/stdout", "/dev/stderr")}
_PROGRAM_FOLDERS = {Path(path) for path in ("/bin", "/usr/bin", "/usr/local/bin")}

# Every pattern is linear in the length of the command: what can repeat is bounded or cannot overlap.
_EXPANSION = re.compile(r"\$\([^()]*\)|`[^`]*`|\$\{[^}]*\}|\$'[^']*'|\$[a-z_]\w*", re.IGNORECASE)
_ASSIGNMENT = re.compile(r"\w+=")
_FORCE_FLAG = re.compile(r"-[a-eg-qs-z]*[rf][a-z]*$|--r[ecursiv]*$|--f[orce]*$")
_PIPED_SHELL = re.compile(r"\|\s*(?:sudo\s+|env\s+|exec\s+)?(?:/\S{0,40}/)?(?:ba|z|da|k|a)?sh\b")
_OWN_NAME = re.compile(r"(?<![./\w])nanobot(?![/\w])")
_TEXT_RULES = (
    (re.compile(r">\s*/dev/(?:sd|hd|vd|nvme|mmcblk|disk)"), "writes to a disk device"),
    (re.compile(r"(?<![\w:.])([\w:.]{1,64})\s*\(\s*\)\s*\{[^}|]{0,200}\1\s*\|\s*\1\s*&"), "is a fork bomb"),
    (
        re.compile(
            r"\bnanobot\s[^;|&\n]{0,200}\bskills\s+(?:install|remove)\b"
            r"|\bclawd?hub\b[^;|&\n]{0,200}\b(?:install|update|uninstall)\b"
        ),
        "installs or removes a skill, which the owner does: nanobot skills install clawhub:SLUG",
    ),
    (re.compile(r"\brmtree\b|\brmsync\b"), "deletes a folder with all it holds"),
    (re.compile(r"/proc/[^\s/]+/(?:task/[^\s/]+/)?(?:environ|mem)\b"), "reads the memory of a process"),
)
_REST_RULES: tuple[tuple[str, Callable[[str], object], str], ...] = (
    ("rm", _FORCE_FLAG.match, "deletes recursively or by force (rm -r, rm -f)"),
    ("find", "-delete".__eq__, "deletes everything it finds (find -delete)"),
    ("del", re.compile(r"/[fq]").match, "deletes by force (del /f, del /q)"),
    ("rmdir", "/s".__eq__, "deletes a whole folder (rmdir /s)"),
    ("dd", re.compile(r"if=").match, "copies raw data (dd)"),
    ("powershell", re.compile(r"[-/]e(n|c|$)").match, "runs an encoded script"),
    ("pwsh", re.compile(r"[-/]e(n|c|$)").match, "runs an encoded script"),
)


def check_command(command: str, paths: PathPolicy, folder: Path) -> None:
    """Raise AccessDenied when `command`, run in `folder`, must not run.

    Refused are: the destructive commands of the deny list in common disguises, killing nanobot itself,
    naming nanobot's own files, writing to protected folders, and, with `paths.restrict`, naming anything
    outside the workspace.
    """
    reason = _text_reason(command) or _destructive_reason(command) or _own_death_reason(command)
    reason = reason or _path_reason(command, paths, folder) or _protected_reason(command, paths, folder)
    if reason:
        raise AccessDenied(
            f"Command refused: it {reason}. Do it another way, or ask the owner to run it in a terminal."
        )


def _text_reason(command: str) -> str:
    plain = _plain(command).lower()
    return next((reason for pattern, reason in _TEXT_RULES if pattern.search(plain)), "")


def _destructive_reason(command: str) -> str:
    plain = _plain(command).lower()
    piped = _PIPED_SHELL.search(plain) is not None
    segments = list(_segments(plain))
    for words in segments:
        commands = words if piped or _WRAPPER.fullmatch(words[0]) else words[:1]
        reason = _rest_reason(words) or next(filter(None, map(_command_reason, commands)), "")
        if reason or words[0] == "format":
            return reason or "formats a disk"
    shell = piped or any(_SHELL.fullmatch(_program(words[0])) for words in segments)
    if shell and any(map(_decodes, segments)):
        return "runs text that it decodes first"
    return _disguised_reason(command)


def _rest_reason(words: list[str]) -> str:
    """Programs refused, wherever in a segment they stand, for a word that comes after them."""
    programs = [_program(word) for word in words]
    for program, refused, reason in _REST_RULES:
        if program in programs and any(map(refused, words[programs.index(program) + 1 :])):
            return reason
    return ""


def _command_reason(word: str) -> str:
    program = _program(word)
    if program in _POWER:
        return "switches the machine off"
    return "formats a disk" if program == "diskpart" or program.startswith("mkfs") else ""


def _disguised_reason(command: str) -> str:
    """`r?m`, `$(echo r)m -rf`, `$a$b -rf`: a command word that could turn out as rm, with its flags."""
    unknown = _EXPANSION.sub("*", _EXPANSION.sub("*", command))
    for words in _segments(_plain(unknown).lower()):
        while len(words) > 2 and (_WRAPPER.fullmatch(words[0]) or words[0].startswith("-")):
            words = words[1:]
        program = _program(words[0]).replace("?", "*")
        hidden = len(program) < GLOB_CHARS and any(sign in program for sign in "*[")
        if hidden and fnmatchcase("rm", program) and len(words) > 1 and _FORCE_FLAG.match(words[1]):
            return "hides the name of the program it runs, with the flags of rm -rf"
    return ""


def _decodes(words: list[str]) -> bool:
    return bool(_DECODER.fullmatch(_program(words[0])) and {"-d", "-di", "--decode", "-r"} & {*words})


def _own_death_reason(command: str) -> str:
    """Killing nanobot by name or by number (`kill 4711`, `pkill nanobot`, `kill $PPID`, `kill -9 -1`)."""
    plain = _plain(command).lower()
    own_numbers = {str(os.getpid()), f"-{os.getpgrp()}", "-1", "$ppid"}
    named = _OWN_NAME.search(plain) is not None
    for words in _segments(plain):
        position = next((number for number, word in enumerate(words) if _program(word) in _KILLERS), None)
        if position is not None:
            targets = _kill_targets(words[position + 1 :])
            by_kind = _program(words[position]) != "kill" and re.match(r"python[\d.]*$", words[-1])
            if named or by_kind or own_numbers & {*targets}:
                return "would stop nanobot itself"
        if named and words[0] == "systemctl" and {"stop", "kill", "restart", "disable"} & {*words}:
            return "would stop nanobot itself"
    return ""


def _kill_targets(words: list[str]) -> list[str]:
    """The arguments of kill without its signal (`-9`), so that `kill -1 5` is a hang-up of 5."""
    rest = [word for word in words if word != "--"]
    return rest[1:] if len(rest) > 1 and rest[0].startswith("-") else rest


def _path_reason(command: str, paths: PathPolicy, folder: Path) -> str:
    for word in _path_words(command, folder):
        try:
            real = paths.resolve(word, folder)
        except ToolError:
            continue
        if paths.zone(real) is Zone.PRIVATE or _pattern_reaches_private(word, paths):
            return f"names files of nanobot itself ({word})"
        if paths.restrict and paths.zone(real) is Zone.OUTSIDE and not _harmless(Path(word)):
            return f"names {word}, which is outside the workspace {paths.workspace}"
    if paths.restrict and any(words in (["cd"], ["cd", "-"]) for words in _segments(_plain(command))):
        return "leaves the workspace (cd without a folder)"
    return ""


def _protected_reason(command: str, paths: PathPolicy, folder: Path) -> str:
    """`> skills/x/SKILL.md`, `cp -r draft skills/`, `curl -o tools/x.py …`: file tools may not either."""
    plain = _plain(command)
    targets = re.findall(r">[>|]?\s*([^\s<>|;&()]+)", plain)
    for words in _segments(plain):
        program = _program(words[0])
        last = program in _WRITES_LAST or words[:2] == ["git", "clone"]
        whole = program in _WRITES_ALL or _EDITS_IN_PLACE.match(" ".join(words))
        targets += words[-1:] if last else words[1:] if whole else []
    for word in _path_words(" ".join(targets), folder):
        with contextlib.suppress(ToolError):
            if paths.zone(paths.resolve(word, folder)) is Zone.PROTECTED:
                return f"writes to {word}, which only the owner changes (write a draft below drafts/)"
    return ""


def _harmless(path: Path) -> bool:
    return path in _HARMLESS or path.parent in _PROGRAM_FOLDERS


def _pattern_reaches_private(word: str, paths: PathPolicy) -> bool:
    """Whether a glob such as `~/.nano*/config.json` covers a private folder."""
    if len(word) > 10 * GLOB_CHARS or not any(sign in word for sign in "*?["):
        return False
    parts = Path(word).expanduser().parts
    return any(
        len(parts) >= len(root.parts)
        and parts[: len(root.parts)] != root.parts
        and all(map(fnmatchcase, root.parts, parts))
        for root in paths.private
    )


def _path_words(command: str, folder: Path) -> Iterator[str]:
    """Every word of a command that may be a path, with `$HOME` and `$PWD` filled in."""
    filled = {"$HOME": str(Path.home()), "$PWD": str(folder)}
    plain = re.sub(r"\$(HOME|PWD)\b", lambda name: filled[name.group()], _plain(command))
    without_urls = re.sub(r"\b(?!file:)[a-z][\w+.-]{0,20}://\S*", " ", plain, flags=re.IGNORECASE)
    for word in dict.fromkeys(re.split(r"[\s<>|;&(){}=,:`]+", without_urls)):
        path = re.sub(r"^(?:-\w)?@?(?=[/~.])", "", word)  # -d@FILE, as curl reads a file
        if path and len(path) <= PATH_CHARS and not path.startswith("-") and "$" not in path:
            yield path


def _plain(command: str) -> str:
    """The command without what a shell takes away: quotes, backslashes, `$IFS`, brace lists."""
    text = re.sub(r"\$\{IFS\b[^}]*\}|\$IFS\b", " ", command.replace("\\\n", ""))
    text = re.sub(r"\$\{(\w+)\}", r"$\1", text)
    text = re.sub(r"\{[^{}\s,]*(?:,[^{}\s,]*)+\}", lambda braces: braces.group().replace(",", " "), text)
    return re.sub(r"[\\'\"]", "", text)


def _segments(plain: str) -> Iterator[list[str]]:
    """The words of each simple command, leading assignments left out. Never an empty list."""
    for segment in re.split(r"\$\(|[;&|\n(){}`]", plain):
        words = segment.split()
        while words and _ASSIGNMENT.match(words[0]):
            words = words[1:]
        if words:
            yield words


def _program(word: str) -> str:
    return word.rsplit("/", 1)[-1]
