"""What the shell guard knows of programs: which run others, which are refused and why."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from nanobot.security.shell_text import UNKNOWN, unescaped
from nanobot.security.shell_words import SimpleCommand, TooDeep

GLOB_CHARS = 100
DEEPEST = 8  # scripts within scripts, wrappers of wrappers

# Programs that run what follows: their options that take a value, and how many words come before the command.
WRAPPERS: dict[str, tuple[str, int]] = {
    **dict.fromkeys(("sudo", "doas"), ("ugpCrtTDRhUcaL", 0)),
    **dict.fromkeys(
        ("nohup", "setsid", "time", "builtin", "busybox", "toybox", "command", "catchsegv"), ("fo", 0)
    ),
    **dict.fromkeys(("timeout", "chroot", "flock", "taskset", "chrt"), ("ksEwTPD", 1)),
    **dict.fromkeys(
        ("nice", "ionice", "stdbuf", "exec", "unshare", "nsenter", "strace", "ltrace"), ("naceiopstuPEI", 0)
    ),
    "env": ("uC", 0),
    "xargs": ("IadEnLPs", 0),
    "watch": ("nd", 0),
    "ssh": ("bcDEeFIiJLlmOopQRSWw", 1),
    "parallel": ("jIaCdEN", 0),
}
_LONG_WITH_VALUE = re.compile(
    r"--(user|group|chdir|unset|adjustment|class\w*|signal|kill-after|max-\w+|delimiter|interval)"
)
JOINED = {"eval", "watch", "ssh", "parallel"}  # what follows is one text for a shell
SHELL = re.compile(r"(?:ba|da|z|k|a|fi)?sh|source|\.")
TAKE_C = {"su", "script", "flock"}  # a text for a shell after -c
INTERPRETER = re.compile(
    r"python[\d.]*|pypy[\d.]*|perl[\d.]*|ruby[\d.]*|node|nodejs|deno|bun|php[\d.]*|lua[\d.]*|[gmn]?awk"
)
_CODE_FLAG = re.compile(r"-\w*[cerpER]|--eval|--print")
TEXT_PROGRAMS = {"echo", "printf"}  # their words are text
_POWER = {"shutdown", "reboot", "poweroff", "halt"}
_KILLERS = {"kill", "pkill", "killall", "skill"}
_INSTALLERS = re.compile(r"nanobot|clawd?hub|npx|bunx|pnpx|pnpm|yarn|npm|bun|uvx?|pipx|python[\d.]*")
_DECODERS = {
    "base64": r"-d\w*|-D|--d\w*",
    "base32": r"-d\w*|--d\w*",
    "basenc": r"-d\w*|--d\w*",
    "xxd": r"-\w*r\w*",
}
_DECODERS |= {"openssl": "-d", "uudecode": ".*", "rev": ".*", "tr": ".*"}
_FORCE_FLAG = re.compile(r"-[dfiprvwx]*[rf][dfiprvwx]*|--r[ecursiv]*|--f[orce]*")
_REFUSED_ARGUMENT: dict[str, tuple[re.Pattern[str], str]] = {
    "rm": (_FORCE_FLAG, "deletes recursively or by force (rm -r, rm -f)"),
    "find": (re.compile("-delete"), "deletes everything it finds (find -delete)"),
    "del": (re.compile(r"/[fq]"), "deletes by force (del /f, del /q)"),
    **dict.fromkeys(("rmdir", "rd"), (re.compile("/s"), "deletes a whole folder (rmdir /s)")),
    "dd": (re.compile(r"if=.*|of=/dev/.*", re.DOTALL), "copies raw data (dd)"),
    **dict.fromkeys(("powershell", "pwsh"), (re.compile(r"[-/]e(?:n\w*|c)?"), "runs an encoded script")),
    **dict.fromkeys(("systemctl", "loginctl"), (re.compile("|".join(_POWER)), "switches the machine off")),
    **dict.fromkeys(("init", "telinit"), (re.compile("[06]"), "switches the machine off")),
}
# In the text of a program in another language.
_CODE_WORD = re.compile(r"[\w/~-]+")
_DELETES_TREE = re.compile(r"\b(?:rmtree|rmsync|rmdirsync|remove_tree|rm_rf|rm_r)\b|\bfs\.rm\b")
_LAUNCHES = re.compile(r"\b(?:system|popen|subprocess|exec\w*|spawn\w*|call|run|check_\w+|qx|kill|eval)\b|`")
_DECODES = re.compile(r"\b(?:b64decode|b32decode|fromhex|unhexlify|decode_base64|base64_decode|atob)\b")
_PROCESS_MEMORY = re.compile(r"/proc/[^\s/]+/(?:task/[^\s/]+/)?(?:environ|mem)\b")


def code_of(one: SimpleCommand) -> str:
    """The text in another language that a command brings with it."""
    for words in unwrapped(one):
        program = program_of(words[0])
        if INTERPRETER.fullmatch(program):
            given = program.endswith(("awk", "-")) or any(map(_CODE_FLAG.fullmatch, words[1:]))
            return "\n".join(words[1:]) if given else ""
    return ""


def unwrapped(one: SimpleCommand) -> Iterator[list[str]]:
    """The words of a command, then those of every command that it runs with the rest of them."""
    words = one.words
    if words and program_of(words[0]) == "xargs":
        words = [*words, *(word for source in one.sources for word in printed(source).split())]
    yield from _chain(words, 0)


def _chain(words: list[str], depth: int) -> Iterator[list[str]]:
    for level in range(depth, DEEPEST):
        if not words or not words[0]:
            return
        yield words
        program = program_of(words[0])
        if program == "find":
            starts = [n for n, word in enumerate(words) if re.fullmatch("-(exec|ok)(dir)?", word)]
            for start in starts[:DEEPEST]:
                yield from _chain(words[start + 1 :], level + 1)
            return
        if program not in WRAPPERS or (program == "command" and words[1:2] in (["-v"], ["-V"])):
            return
        words = after_options(words[1:], *WRAPPERS[program])
    raise TooDeep


def after_options(words: Sequence[str], with_value: str, before: int) -> list[str]:
    """The command behind the options of a wrapper, its variables and the words that it takes itself."""
    at = 0
    options = True
    while at < len(words):
        word = words[at]
        if options and word.startswith("-"):
            options = word != "--"
            takes_next = len(word) > 1 and word[-1] in with_value and not word.startswith("--")
            at += takes_next or _LONG_WITH_VALUE.fullmatch(word) is not None
        elif not re.match(r"\w+=", word):
            break
        at += 1
    return list(words[at + before :])


def program_of(word: str) -> str:
    return word.rsplit("/", 1)[-1].lower()


def program_reason(program: str, arguments: list[str]) -> str:
    if program in _POWER:
        return "switches the machine off"
    if program.startswith("mkfs") or program in ("diskpart", "format"):
        return "formats a disk"
    refused, reason = _REFUSED_ARGUMENT.get(program, (None, ""))
    if refused and any(refused.fullmatch(word.lower()) for word in arguments):
        return reason
    pattern = program.replace(UNKNOWN, "*").replace("?", "*")
    hidden = len(pattern) < GLOB_CHARS and any(sign in pattern for sign in "*[")
    if hidden and fnmatchcase("rm", pattern) and any(map(_FORCE_FLAG.fullmatch, arguments[:2])):
        return "hides the name of the program it runs, with the flags of rm -rf"
    if _INSTALLERS.fullmatch(program.partition("@")[0]):
        names = [
            program.partition("@")[0],
            *(word.rsplit("/", 1)[-1].partition("@")[0] for word in arguments),
        ]
        changes = "nanobot" in names and "skills" in names and not {"install", "remove"}.isdisjoint(names)
        if changes or (
            not {"clawhub", "clawdhub"}.isdisjoint(names)
            and not {"install", "update", "uninstall"}.isdisjoint(names)
        ):
            return "installs or removes a skill, which the owner does: nanobot skills install clawhub:SLUG"
    memory = any(map(_names_process_memory, arguments))
    return "reads the memory of a process" if memory and program not in TEXT_PROGRAMS else ""


def _names_process_memory(word: str) -> bool:
    parts = word.split("/")
    if len(parts) > 3 and parts[1] == "proc" and len(parts[-1]) < GLOB_CHARS:
        last = parts[-1].replace(UNKNOWN, "*")
        return any(fnmatchcase(name, last) for name in ("environ", "mem"))
    return _PROCESS_MEMORY.search(word) is not None


def death_reason(program: str, arguments: list[str], one: SimpleCommand, names_nanobot: bool) -> str:
    """Killing nanobot by name or by number (`kill 4711`, `pkill nanobot`, `kill $PPID`, `kill -9 -1`)."""
    named = any("nanobot" in word.lower() for word in arguments)
    if program in ("systemctl", "service", "launchctl", "supervisorctl"):
        ends = named and not {"stop", "kill", "restart", "disable"}.isdisjoint(arguments)
        return "would stop nanobot itself" if ends else ""
    if program not in _KILLERS:
        return ""
    rest = [word for word in arguments if word != "--"]
    targets = rest[1:] if len(rest) > 1 and rest[0].startswith("-") else rest  # kill -1 5 is a hang-up of 5
    own = not {str(os.getpid()), f"-{os.getpgrp()}", "-1"}.isdisjoint(targets)
    by_name = program == "pkill" and bool(rest) and rest[-1].strip("^.*$").lower() in "nanobot gateway"
    by_kind = program != "kill" and bool(rest) and re.fullmatch(r"python[\d.]*", rest[-1]) is not None
    found = not targets or any(UNKNOWN in word for word in targets)  # by another command
    asks = [printed(other).lower() for other in (*one.within, *one.sources)]
    parent = found and any("ppid" in text for text in asks)
    return (
        "would stop nanobot itself"
        if named or own or by_name or by_kind or parent or (found and names_nanobot)
        else ""
    )


def decodes(one: SimpleCommand) -> bool:
    for words in unwrapped(one):
        pattern = _DECODERS.get(program_of(words[0]))
        if pattern and (pattern == ".*" or any(re.fullmatch(pattern, word) for word in words[1:])):
            return True
    return False


def printed(one: SimpleCommand) -> str:
    """What a command prints as far as it is in its own words."""
    text = " ".join(one.words[1:]) if one.words else ""
    escapes = one.words and (program_of(one.words[0]) == "printf" or one.words[1:2] == ["-e"])
    return f"{unescaped(text) if escapes else text}\n{one.data}"


def code_reason(code: str) -> str:
    """For a program in another language: only what is plainly written there."""
    code = code.lower()
    if _DELETES_TREE.search(code):
        return "deletes a folder with all it holds"
    if _PROCESS_MEMORY.search(code):
        return "reads the memory of a process"
    if not _LAUNCHES.search(code):
        return ""
    if _DECODES.search(code):
        return "runs text that it decodes first"
    words = _CODE_WORD.findall(code)
    programs = [program_of(word) for word in words]
    if "getppid" in words and "kill" in words:
        return "would stop nanobot itself"
    for program in {*programs} & {*_REFUSED_ARGUMENT, *_POWER}:
        later = words[programs.index(program) + 1 :]
        if reason := program_reason(program, later):
            return reason
    return ""
