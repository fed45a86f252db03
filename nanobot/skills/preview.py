"""What a skill contains, for its owner's eyes before it is trusted: commands, addresses, scripts, tricks.

A list of what stands there, not a judgement: a skill can do harm in plain words as well. Everything is
looked at as text; nothing is run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_SHELLS = {"", "sh", "bash", "zsh", "shell", "console", "terminal", "fish", "ps1", "powershell", "bat", "cmd"}
_DATA = {"json", "yaml", "yml", "toml", "ini", "text", "txt", "markdown", "md", "html", "xml", "csv", "diff"}
_SCRIPTS = {".sh", ".bash", ".zsh", ".py", ".js", ".mjs", ".ts", ".rb", ".pl", ".php", ".lua", ".ps1", ".bat"}
_FENCE = re.compile(r"\s*(?:[-*>]\s+)*(```+|~~~+)\s*([\w.+-]*)")
_INLINE = re.compile(r"(?<!`)(`++)(.{1,300}?)\1", re.DOTALL)
# The first words that make a line or an inline span a command, wherever it stands; in a span, more do.
_PROGRAMS = """
    apt apt-get base64 bash brew chmod chown clawhub cp crontab curl dd dnf docker eval export git iex iwr
    kubectl launchctl mv nanobot nc node npm npx openclaw openssl osascript perl php pip pip3 pipx pnpm
    powershell python python3 rm rsync ruby scp sh source ssh su sudo systemctl uv uvx wget yarn zsh
"""
_IN_SPANS = """
    awk cargo cat cd cmake defaults echo ffmpeg find gh go grep java jq kill ln make mkdir open pkill printf
    sed sqlite3 tar tee tmux touch unzip xdg-open yt-dlp
"""
_BEFORE = r"(?:(?:[-*+>]|\d+[.)]) +)*(?:\$ |sudo |env |[A-Z_]+=\S+ )*"
_OWN = r"(?:\.{1,2}/|~/|scripts/)[\w./-]+"  # a file of the skill, run by its path
_COMMAND = re.compile(rf"{_BEFORE}(?:{'|'.join(_PROGRAMS.split())}|{_OWN}) +\S")
_SPAN = re.compile(rf"{_BEFORE}(?:{'|'.join((_PROGRAMS + _IN_SPANS).split())}|{_OWN}) +\S")
_PIPED = re.compile(r"\b(?:curl|wget|base64|iwr)\b[^\n`]{0,300}\|\s*(?:sudo\s+)?(?:ba|z|da)?sh\b")
_URL = re.compile(r"\b(?:https?|ftp|wss?|ssh|git)://[^\s<>\"'`\\^{}|]+|\bgit@[\w.-]+:[\w./-]+", re.IGNORECASE)
_INVISIBLE = re.compile(
    "[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\U000e0000-\U000e01ef]"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_EMOJI_JOINER = re.compile("(?<=[\u2190-\u2bff\ufe0f\U0001f000-\U0001faff])\u200d")
_COMMENT = re.compile(r"<!--(.*?)(?:-->|\Z)|^\[[^\]\n]*\]:[ \t]*(?:#|<>)([^\n]*)", re.DOTALL | re.MULTILINE)
_BLOB = re.compile(r"[A-Za-z0-9+/]{100,}={0,2}|(?:\\x[0-9a-f]{2}){12,}|(?:[0-9a-f]{2}){60,}", re.IGNORECASE)
_FAR_RIGHT = re.compile(r"\S[ \t]{60,}+\S|(?<!\n)\n{30,}+\S")


class Preview(NamedTuple):
    """`files` are (name, bytes, script, text, or binary); the rest are lines to show, with their place."""

    files: tuple[tuple[str, int, str], ...]
    commands: tuple[str, ...]
    urls: tuple[str, ...]
    hidden: tuple[str, ...]


def preview(folder: Path) -> Preview:
    """Look through all files of a skill. Raises OSError."""
    files, commands, urls, hidden = [], [], [], []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name, data = path.relative_to(folder).as_posix(), path.read_bytes()
        text = data.decode("utf-8", "replace").replace("\r\n", "\n").removeprefix("\ufeff")
        is_script = path.suffix.lower() in _SCRIPTS or data.startswith(b"#!") or os.access(path, os.X_OK)
        is_binary = b"\0" in data or text.count("\ufffd") > len(text) // 100
        files.append((name, len(data), "binary" if is_binary else "script" if is_script else "text"))
        urls += [_without_punctuation(match[0]) for match in _URL.finditer(text)]
        if not is_binary:
            hidden += [f"{name}: {what}" for what in _hidden(text)]
        if not is_binary and not is_script:
            commands += [f"{name}: {line}" for line in _commands(text)]
    once = (tuple(dict.fromkeys(lines)) for lines in (commands, urls, hidden))
    return Preview(tuple(files), *once)


def _without_punctuation(url: str) -> str:
    """A URL without what belongs to the sentence around it."""
    extra = url.count(")") - url.count("(")
    end = len(url)
    while end and (url[end - 1] in ".,;:!?*_]" or (url[end - 1] == ")" and extra > 0)):
        extra -= url[end - 1] == ")"
        end -= 1
    return url[:end]


def _commands(text: str) -> Iterator[str]:
    """Every line of a shell block, other code by its length, and what looks like a command anywhere else."""
    fence = language = before = ""
    code = 0
    prose = []
    for line in text.split("\n"):
        found = _FENCE.match(line)
        if found and (not fence or (found[1].startswith(fence) and not found[2])):
            if fence and language not in (*_SHELLS, *_DATA):
                yield f"{code} line{'s' if code != 1 else ''} of {language} code"
            fence, language = ("", "") if fence else (found[1], found[2].lower())
            code = 0
            continue
        code += 1
        if fence and language in _SHELLS:
            if line.rstrip().endswith("\\"):
                before += line.rstrip()[:-1] + " "
                continue
            command, before = " ".join((before + line).split()).removeprefix("$ "), ""
            if command and not command.startswith("#"):
                yield command
        elif _COMMAND.match(line.strip()):
            yield line.strip()
        else:
            prose.append(line)
    if before:
        yield before
    rest = "\n".join(prose)
    yield from (found[2].strip() for found in _INLINE.finditer(rest) if _SPAN.match(found[2].strip()))
    yield from (found[0] for found in _PIPED.finditer(rest))


def _hidden(text: str) -> Iterator[str]:
    """What a reader of the rendered page would not see."""
    visible = _EMOJI_JOINER.sub("", text)
    for pattern, what in ((_INVISIBLE, "invisible or direction-changing"), (_CONTROL, "control")):
        if found := pattern.findall(visible):
            codes = ", ".join(f"U+{ord(character):04X}" for character in sorted(set(found))[:8])
            yield f"{len(found)} {what} characters ({codes})"
    tags = "".join(chr(ord(c) - 0xE0000) for c in visible if 0xE0020 <= ord(c) <= 0xE007E)
    if tags:
        yield f"text in invisible characters: {tags}"
    for comment in _COMMENT.finditer(visible):
        yield f"comment: {' '.join((comment[1] or comment[2] or '').split())}"
    for blob in _BLOB.finditer(visible):
        yield f"encoded data of {len(blob[0])} characters: {blob[0][:40]}…"
    if _FAR_RIGHT.search(visible):
        yield "text far to the right or far below, behind blank space"
