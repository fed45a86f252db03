"""What a shell command may not do, as far as its text shows.

This is a courtesy guard against accidents and plain disobedience, not a boundary: a shell has endless
spellings. The sandbox is the boundary. Judged are the commands of the text (`shell_reader`), not its words:
what is quoted, searched for or written down may say anything.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from nanobot.errors import AccessDenied, ToolError
from nanobot.security.files import PathPolicy, Zone
from nanobot.security.shell_reader import UNKNOWN, SimpleCommand, TooDeep, read_commands, unescaped

MORE_TEXT = 20_000  # characters of scripts within a command that are read, beside five times its own
MOST_WRAPPERS = 8
PATH_CHARS = 4096
PATTERN_CHARS = 100
LISTED_CHARS = 10_000  # of what commands print, as words for xargs

# Programs that run what follows: their options that take a value, and how many words come before the command.
_WRAPPERS: dict[str, tuple[str, int]] = {
    **dict.fromkeys(("sudo", "doas"), ("ugpCrtTDRhUcaL", 0)),
    **dict.fromkeys(
        ("nohup", "setsid", "time", "builtin", "busybox", "toybox", "command", "coproc"), ("fo", 0)
    ),
    **dict.fromkeys(("timeout", "chroot", "flock", "taskset", "chrt"), ("ksEwTPD", 1)),
    **dict.fromkeys(
        ("nice", "ionice", "stdbuf", "exec", "unshare", "nsenter", "strace"), ("naceiopstuPEI", 0)
    ),
    "env": ("uC", 0),
    "xargs": ("IadEnLPs", 0),
    "parallel": ("jaIS", 0),
    "watch": ("n", 0),
    "ssh": ("bcDEeFIiJLlmOopQRSWw", 1),
}
_LONG_WITH_VALUE = re.compile(
    r"--(user|group|chdir|unset|adjustment|class\w*|signal|kill-after|max-\w+|delimiter|interval)"
)
_SHELL = re.compile(r"(?:ba|da|z|k|a|fi)?sh|source|\.")
_TAKE_TEXT = {"su", "script", "flock", "trap", "alias"}  # one of their words is a text for a shell
_INTERPRETER = re.compile(
    r"python[\d.]*|pypy[\d.]*|perl[\d.]*|ruby[\d.]*|node|nodejs|deno|bun|php[\d.]*|lua[\d.]*|[gmn]?awk"
)
_CODE_FLAG = re.compile(r"-\w*[cerpER]|--eval|--print")
_TEXT_PROGRAMS = {"echo", "printf", "eval"}  # their words are text, or judged as a script
_PATTERN_PROGRAMS = re.compile(r"[efrz]?grep|rg|ag|ack|g?sed|[gmn]?awk|jq")  # their first word is one
_TEXT_OPTIONS = {"-m", "--message", "-am", "-S", "-G", "-e", "--regexp"}  # of these and of git
_DECODER = re.compile(
    r"(?:base(?:64|32|nc)|openssl)\b.* (?:-d|-D|--d)|xxd\b.* -\w*r|(?:uudecode|rev|tr)\b", re.DOTALL
)

_POWER = {"shutdown", "reboot", "poweroff", "halt"}
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
_FORK_BOMB = re.compile(r"(?<![\w:])([\w:]{1,50})\s*\(\)\s*\{[^{}]{0,200}?(?<![\w:])\1\s*(?:\|(?!\|)|&(?!&))")
_PROCESS_MEMORY = re.compile(r"/proc/[^\s'\"]{0,100}/(?:env|mem\b)")
_INSTALLERS = re.compile(r"nanobot|clawd?hub|npx|bunx|pnpx|pnpm|yarn|npm|bun|uvx?|pipx|python[\d.]*")
_KILLERS = {"kill", "pkill", "killall", "skill"}
_SERVICES = {"systemctl", "service", "launchctl", "supervisorctl"}
# In the text of a program in another language.
_DELETES_TREE = re.compile(r"\b(?:rmtree|rmsync|rmdirsync|remove_tree|rm_rf|rm_r)\b|\bfs\.rm\b")
_LAUNCHES = re.compile(r"\b(?:system|popen|subprocess|exec\w*|spawn\w*|call|run|check_\w+|qx|kill|eval)\b|`")
_DECODES = re.compile(r"\b(?:b64decode|b32decode|fromhex|unhexlify|decode_base64|base64_decode|atob)\b")

_WRITES_LAST = {"cp", "ln", "rsync", "install"}
_WRITES_ALL = {"mv", "tee", "touch", "mkdir", "rm", "rmdir", "curl", "wget", "unzip"}
_IN_PLACE = re.compile(r"-[a-zA-Z]*i|--in-place")
_DISK = re.compile(r"/dev/(?:sd|hd|vd|nvme|mmcblk|disk)")
_HARMLESS = re.compile(r"/dev/(?:null|std(?:in|out|err)|tcp)|/(?:usr/(?:local/)?)?bin/[^/]+")


def check_command(command: str, paths: PathPolicy, folder: Path) -> None:
    """Raise AccessDenied when `command`, run in `folder`, must not run.

    Refused are: the destructive commands of the deny list in common disguises, killing nanobot itself,
    naming nanobot's own files, writing to protected folders, and, with `paths.restrict`, naming anything
    outside the workspace.
    """
    try:
        reason = _reason(command, paths, folder)
    except TooDeep:
        reason = "is nested too deeply to be read"
    if reason:
        raise AccessDenied(
            f"Command refused: it {reason}. Do it another way, or ask the owner to run it in a terminal."
        )


def _reason(command: str, paths: PathPolicy, folder: Path) -> str:
    variables = {"HOME": str(Path.home()), "PWD": str(folder), "PPID": str(os.getpid()), "IFS": " "}
    texts, seen, room = [command], {""}, MORE_TEXT + 5 * len(command)
    while texts:
        text = texts.pop()
        if text in seen:
            continue
        seen.add(text)
        room -= len(text)
        if room < 0:
            raise TooDeep
        if _FORK_BOMB.search(text):
            return "is a fork bomb"
        script = _Script(read_commands(text, variables))
        for one in script.commands:
            if reason := _paths_reason(one, paths, folder) or script.reason(one):
                return reason
        texts += script.texts
        if script.runs_input:
            texts += script.printed
            if reason := _code_reason("\n".join(script.printed)):
                return reason
    return ""


class _Script:
    """Commands that stand together: what one says may be what another of them runs.

    `texts` are given to other shells; so is what is `printed` when a shell or interpreter `runs_input`.
    """

    def __init__(self, commands: Sequence[SimpleCommand]) -> None:
        self.commands = commands
        self.printed = [_printed(one) for one in commands]
        self.texts: list[str] = []
        self.runs_input = False
        said = "\n".join(self.printed)
        self._looks_for_nanobot = re.search("nanobot|ppid", said, re.IGNORECASE) is not None
        self._listed = said[:LISTED_CHARS].split()
        self._decoded = {path for one in commands if _decodes(one) for path in (*one.writes, UNKNOWN)}

    def reason(self, one: SimpleCommand) -> str:
        """Why this command of it may not run; "" if it may."""
        xargs = bool(one.words) and _program(one.words[0]) == "xargs"
        for words in _unwrapped([*one.words, *self._listed] if xargs else one.words):
            program, arguments = _program(words[0]), words[1:]
            if reason := _program_reason(program, arguments) or self._runs_text(program, arguments):
                return reason
            if _kills_nanobot(program, arguments, self._looks_for_nanobot):
                return "would stop nanobot itself"
        return _code_reason(_code(one))

    def _runs_text(self, program: str, arguments: Sequence[str]) -> str:
        """Shells, interpreters and their kin: the text they are given to run is judged as well."""
        shell, interpreter = _SHELL.fullmatch(program), _INTERPRETER.fullmatch(program)
        plain = [word for word in arguments if not word.startswith("-")]
        scripts: list[str] = []
        files: list[str] = []
        if program == "eval":
            scripts = [" ".join(arguments)]
        elif program in _TAKE_TEXT or (shell and any(re.match("-[a-z]*c", word) for word in arguments)):
            scripts = [word.partition("=")[2] for word in plain] if program == "alias" else plain
        elif shell or interpreter:
            own = plain if shell else arguments
            from_input = not own or not {"-", "-s", "/dev/stdin"}.isdisjoint(arguments)
            self.runs_input = self.runs_input or from_input
            files = [UNKNOWN] if from_input else plain[:1] if shell else []
        if self._decoded and any(UNKNOWN in text or text in self._decoded for text in (*scripts, *files)):
            return "runs text that it decodes first"
        self.texts += scripts
        return ""


def _program(word: str) -> str:
    return word.rsplit("/", 1)[-1].lower()


def _unwrapped(words: list[str]) -> Iterator[list[str]]:
    """The words of a command, then those of every command that it runs with the rest of them."""
    waiting = [words]
    for _ in range(MOST_WRAPPERS):
        while waiting and not (waiting[-1] and waiting[-1][0]):
            waiting.pop()
        if not waiting:
            return
        words = waiting.pop()
        yield words
        program = _program(words[0])
        if program == "find":
            starts = [n for n, word in enumerate(words) if re.fullmatch("-(exec|ok)(dir)?", word)]
            waiting += [words[start + 1 :] for start in starts[:MOST_WRAPPERS]]
        elif program in _WRAPPERS and words[1:2] not in (["-v"], ["-V"]):  # command -v
            rest = _behind(words[1:], *_WRAPPERS[program])
            waiting.append(["eval", *rest] if program == "ssh" else rest)
    raise TooDeep


def _behind(words: Sequence[str], with_value: str, before: int) -> list[str]:
    """The command behind the options of a wrapper, its variables and the words that it takes itself."""
    at = 0
    while at < len(words) and re.match(r"-|\w+=", words[at]):
        word = words[at]
        letter = word[-1] if re.match("-[^-]", word) else ""
        at += 2 if (letter and letter in with_value) or _LONG_WITH_VALUE.fullmatch(word) else 1
        if word == "--":
            break
    return list(words[at + before :])


def _program_reason(program: str, arguments: Sequence[str]) -> str:
    if program in _POWER:
        return "switches the machine off"
    if program.startswith("mkfs") or program in ("diskpart", "format"):
        return "formats a disk"
    refused, reason = _REFUSED_ARGUMENT.get(program, (None, ""))
    if refused and any(refused.fullmatch(word.lower()) for word in arguments):
        return reason
    pattern = program.replace(UNKNOWN, "*").replace("?", "*")[:PATTERN_CHARS]
    hidden = pattern != "rm" and fnmatchcase("rm", pattern)
    if hidden and any(map(_FORCE_FLAG.fullmatch, arguments[:2])):
        return "hides the name of the program it runs, with the flags of rm -rf"
    name = program.partition("@")[0]
    if _INSTALLERS.fullmatch(name):
        names = {name, *(_program(word).partition("@")[0] for word in arguments)}
        skills = {"nanobot", "skills"} <= names and names & {"install", "remove"}
        if skills or (names & {"clawhub", "clawdhub"} and names & {"install", "update", "uninstall"}):
            return "installs or removes a skill, which the owner does: nanobot skills install clawhub:SLUG"
    if program not in _TEXT_PROGRAMS and any(map(_PROCESS_MEMORY.search, arguments)):
        return "reads the memory of a process"
    return ""


def _kills_nanobot(program: str, arguments: Sequence[str], looks_for_nanobot: bool) -> bool:
    """By name or by number: `kill 4711`, `pkill nanobot`, `kill $PPID`, `kill -9 -1`."""
    named = any("nanobot" in word.lower() for word in arguments)
    if program in _SERVICES:
        return named and not {"stop", "kill", "restart", "disable"}.isdisjoint(arguments)
    if program not in _KILLERS:
        return False
    rest = [word for word in arguments if word != "--"]
    targets = rest[1:] if len(rest) > 1 and rest[0].startswith("-") else rest  # kill -1 5 hangs up 5
    if any(UNKNOWN in word for word in targets) or not targets:
        return named or looks_for_nanobot  # another command finds the number
    own = not {str(os.getpid()), f"-{os.getpgrp()}", "-1"}.isdisjoint(targets)
    last = targets[-1].strip("^.*$").lower()
    by_name = program != "kill" and (last in "nanobot gateway" or re.fullmatch(r"python[\d.]*", last))
    return named or own or bool(by_name)


def _decodes(one: SimpleCommand) -> bool:
    """Whether what a command prints was encoded before."""
    return any(_DECODER.match(" ".join([_program(words[0]), *words[1:]])) for words in _unwrapped(one.words))


def _printed(one: SimpleCommand) -> str:
    """What a command prints as far as it is in its own words."""
    text = " ".join(one.words[1:])
    return f"{unescaped(text) if 'printf' in one.words[:1] or '-e' in one.words[1:2] else text}\n{one.data}"


def _code(one: SimpleCommand) -> str:
    """The text in another language that a command brings with it."""
    for words in _unwrapped(one.words):
        program = _program(words[0])
        if _INTERPRETER.fullmatch(program):
            given = program.endswith("awk") or any(map(_CODE_FLAG.fullmatch, words[1:]))
            return "\n".join(words[1:]) if given else ""
    return ""


def _code_reason(code: str) -> str:
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
    if "getppid" in code and "kill" in code:
        return "would stop nanobot itself"
    words = re.findall(r"[\w/~-]+", code)
    programs = [_program(word) for word in words]
    known = {*programs} & {*_REFUSED_ARGUMENT, *_POWER}
    reasons = (_program_reason(program, words[programs.index(program) + 1 :]) for program in known)
    return next(filter(None, reasons), "")


def _paths_reason(one: SimpleCommand, paths: PathPolicy, folder: Path) -> str:
    for word, strict in _named_paths(one):
        try:
            real = paths.resolve(word, folder)
            if not strict and not (real.exists() and len(real.parts) > 2):
                continue
        except (ToolError, OSError):
            continue
        if paths.zone(real) is Zone.PRIVATE or _pattern_reaches(word, paths.private):
            return f"names files of nanobot itself ({word})"
        if paths.restrict and paths.zone(real) is Zone.OUTSIDE and not _HARMLESS.fullmatch(word):
            return f"names {word}, which is outside the workspace {paths.workspace}"
    if paths.restrict and one.words in (["cd"], ["cd", "-"]):
        return "leaves the workspace (cd without a folder)"
    for target in dict.fromkeys(_written(one)):
        if _DISK.match(target):
            return "writes to a disk device"
        for word in _path_words(target):
            with suppress(ToolError):
                if paths.zone(paths.resolve(word, folder)) is Zone.PROTECTED:
                    return f"writes to {word}, which only the owner changes (write a draft below drafts/)"
    return ""


def _pattern_reaches(word: str, private: Sequence[Path]) -> bool:
    """Whether a glob such as `~/.nano*/config.json` covers a private folder."""
    parts = Path(word[:PATTERN_CHARS]).expanduser().parts
    heads = [(str(root), str(Path(*parts[: len(root.parts)]))) for root in private]
    return any(root != head and fnmatchcase(root, head) for root, head in heads)


def _written(one: SimpleCommand) -> list[str]:
    """`> skills/x/SKILL.md`, `cp -r draft skills/`, `> /dev/sda`: what a command writes to."""
    targets = list(one.writes)
    for words in _unwrapped(one.words):
        program = _program(words[0])
        in_place = program in ("sed", "perl") and any(map(_IN_PLACE.fullmatch, words))
        if program in _WRITES_LAST or (program == "git" and "clone" in words[1:3]):
            targets += words[-1:]
        elif program in _WRITES_ALL or in_place:
            targets += words[1:]
    return targets


def _named_paths(one: SimpleCommand) -> Iterator[tuple[str, bool]]:
    """What may be a path in a command; and whether it is one, or only stands in a text or a pattern."""
    program = _program(one.words[0]) if one.words else ""
    patterns = _PATTERN_PROGRAMS.fullmatch(program) is not None
    first = next((n for n, word in enumerate(one.words) if n and not word.startswith("-")), 0)
    for n, word in enumerate(one.words):
        optional = (patterns or program == "git") and one.words[n - 1] in _TEXT_OPTIONS
        is_text = n and (program in _TEXT_PROGRAMS or optional or (patterns and n == first))
        yield from ((path, not is_text) for path in _path_words(word))
    for word in (*one.reads, *one.writes):
        yield from ((path, True) for path in _path_words(word))
    yield from ((path, _INTERPRETER.fullmatch(program) is not None) for path in _path_words(one.data))


def _path_words(text: str) -> Iterator[str]:
    """Every part of a word that may be a path. UNKNOWN parts are left out."""
    without_urls = re.sub(r"\b(?!file:)[a-z][\w+.-]{0,20}://\S*", " ", text, flags=re.IGNORECASE)
    for word in dict.fromkeys(re.split(r"[\s<>|;&(){}=,:`'\"]+", without_urls)):
        path = re.sub(r"^(?:-\w)?@?(?=[/~.])", "", word)  # -d@FILE, as curl reads a file
        if 0 < len(path) <= PATH_CHARS and path[0] != "-" and not {UNKNOWN, "$"} & {*path}:
            yield path
