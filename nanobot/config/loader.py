"""Loads config.json, and changes single keys of it.

The environment beats the file, the file beats the defaults. Nothing here ever replaces a file that
cannot be read, and unknown keys stay where they are. No message quotes a value: it may be a secret.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from nanobot import paths
from nanobot.config.channels import PLANNED
from nanobot.config.json_text import Step, loads, set_value
from nanobot.config.schema import Config
from nanobot.config.section import Reader, entry_of, fields_of
from nanobot.errors import ConfigError

_PREFIX = "NANOBOT_"
_HINTS = dict.fromkeys("]}", "Remove the comma before it. ") | dict.fromkeys("'“”", 'Write " instead. ')
_HINTS |= dict.fromkeys("#/", "Remove the comment, JSON has none. ")


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A usable configuration, and what is odd about it, for the owner."""

    config: Config
    warnings: tuple[str, ...]


def load_config(path: Path | None = None, env: Mapping[str, str] | None = None) -> LoadedConfig:
    """Reads `path` (default: config.json in nanobot's home); a missing file means all defaults.

    Raises ConfigError for an unreadable file, broken JSON, keys given twice and wrong types. What is wrong
    with a section that is `alone` with it is a warning.
    """
    path = paths.config_file() if path is None else path
    env = os.environ if env is None else env
    reader, (_, text) = Reader(env), _read(path)
    for variable, given in sorted(env.items()):
        if variable.upper().startswith(_PREFIX) and "__" in variable:
            text = _overlay(reader, text, variable, given)
    data = json.loads(text)
    data.pop("$schema", None)
    config = reader.read(Config, data)
    off = [f"{problem.text}, so {problem.off}" for problem in reader.problems if problem.off]
    if len(off) < len(reader.problems):
        _refuse(path, reader)
    if missing := [f"channels.{name}" for name in config.channels.enabled() if name in PLANNED]:
        reader.warnings.append(f"{', '.join(missing)}: not in this version yet, so kept and not used")
    return LoadedConfig(config, (*reader.warnings, *off, *_open_to_everyone(path)))


def update_config_file(path: Path, changes: Mapping[str, object]) -> None:
    """Sets keys such as `agents.defaults.model` in the file, which is created if missing.

    Everything else in the file stays byte for byte. Raises ConfigError when the file does not parse, a key
    is unknown or a value has the wrong type; nothing is written then.
    """
    reader, wanted, (mark, text) = Reader(), "{}", _read(path)
    for dotted, value in changes.items():
        steps, _ = _find(dotted.split("."))
        wanted, text = set_value(wanted, steps, value), set_value(text, steps, value)
    reader.read(Config, json.loads(wanted))
    if reader.problems or reader.warnings:
        _refuse(path, reader)
    _write(path, mark + text)


def _overlay(reader: Reader, text: str, variable: str, given: str) -> str:
    """The text with what a variable such as NANOBOT_GATEWAY__PORT says in its place."""
    steps, kind = _find(variable[len(_PREFIX) :].split("__"))
    value: object = given
    if kind is None:
        reader.warnings.append(f"environment variable {variable}: sets no known key, ignored")
        return text
    if kind is not str and given.startswith(("[", "{")):
        with contextlib.suppress(ValueError):  # then it is refused as text, or is an address such as [::1]:80
            value = loads(given, f"environment variable {variable}")
    place = ".".join(step.name for step in steps)
    if place in reader.origins:
        reader.warnings.append(f"{place}: set by two environment variables, {variable} counts")
    reader.origins[place] = f" (from {variable})"
    return set_value(text, steps, value)


def _find(words: list[str]) -> tuple[list[Step], Any]:
    """The way to a key given in any spelling, and its type, which is None if there is no such key."""
    kind: Any = Config
    steps: list[Step] = []
    for word in words:
        fields = fields_of(kind)
        letters = word.replace("_", "").lower()
        field = next((field for name, field in fields.items() if name.lower() == letters), None)
        steps.append(Step(field.alias, (field.alias, *field.also)) if field else Step(word))
        kind = field.annotation if field else entry_of(kind)
    return steps, kind


def _read(path: Path) -> tuple[str, str]:
    """The byte order mark and the JSON object in the file; without a file, an empty object."""
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig")
        data = loads(text, str(path))
    except FileNotFoundError:
        return "", "{}\n"
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}. Check its owner and mode.") from error
    except json.JSONDecodeError as error:
        place = f"{path}, line {error.lineno}, column {error.colno}"
        hint = _HINTS.get(error.doc[error.pos : error.pos + 1], "")
        raise ConfigError(f"{place}: {error.msg}. {hint}The file was not changed.") from None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8. Save the file as UTF-8 text.") from None
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"{path} is nested too deeply or holds an absurdly long number.") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}, line 1: the file must hold one JSON object: {{ … }}.")
    return "\ufeff" if raw.startswith(b"\xef\xbb\xbf") else "", text


def _refuse(path: Path, reader: Reader) -> NoReturn:
    lines = "\n  ".join([*(problem.text for problem in reader.problems), *reader.warnings])
    raise ConfigError(f"{path} cannot be used. Correct this; the file was not changed:\n  {lines}")


def _open_to_everyone(path: Path) -> Iterator[str]:
    """Whoever can write to the file or its folder can have nanobot run anything."""
    for place in (path.parent, path):
        with contextlib.suppress(OSError):
            if (
                place.stat().st_mode & 0o1002 == 0o002
            ):  # with the sticky bit only owners replace what is theirs
                yield f"{place}: everyone on this machine may write to it. Run: chmod o-w {place}"


def _write(path: Path, text: str) -> None:
    paths.make_private_dir(path.resolve().parent)
    paths.write_atomic(path, text.encode(errors="backslashreplace"))  # half a \\u pair stays its JSON escape
