"""Loads config.json, and changes single keys of it.

The environment beats the file, the file beats the defaults. Nothing here ever replaces a file that
cannot be read, and unknown keys stay where they are. No message quotes a value: it may be a secret.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanobot import paths
from nanobot.config.channels import PLANNED
from nanobot.config.schema import Config
from nanobot.config.section import Reader, entry_of, fields_of, to_camel
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

    Raises ConfigError for an unreadable file, broken JSON, wrong types and unset `${VAR}`s.
    """
    path = paths.config_file() if path is None else path
    env = os.environ if env is None else env
    reader, wanted = Reader(env), _read_json(path) or {}
    wanted.pop("$schema", None)
    for variable, text in sorted(env.items()):
        if variable.upper().startswith(_PREFIX) and "__" in variable:
            _overlay(reader, wanted, variable, text)
    config = reader.read(Config, wanted)
    _refuse(path, reader.problems)
    if missing := [f"channels.{name}" for name in config.channels.enabled() if name in PLANNED]:
        reader.warnings.append(f"{', '.join(missing)}: not in this version yet, so kept and not used")
    return LoadedConfig(config, tuple(reader.warnings))


def update_config_file(path: Path, changes: Mapping[str, object]) -> None:
    """Sets keys such as `agents.defaults.model` in the file, which is created if missing.

    Everything else in the file stays: unknown keys, order, spelling. Raises ConfigError when the file
    does not parse, a key is unknown or a value has the wrong type; nothing is written then.
    """
    targets = [(_find(dotted.split("."))[0], value) for dotted, value in changes.items()]
    wanted: dict[str, Any] = {}
    for target, value in targets:
        _put(wanted, target, value)
    reader = Reader()
    reader.read(Config, wanted)
    _refuse(path, reader.problems + reader.warnings)
    data = _read_json(path) or {}
    for target, value in targets:
        _put(data, target, value)
    _write(path, data)


def write_default_config(path: Path) -> bool:
    """Writes a short starter file, unless there is anything at `path`. Says whether it did."""
    if os.path.lexists(path):
        return False
    _write(path, {"agents": {}, "providers": {}, "channels": {}, "tools": {}})
    return True


def _overlay(reader: Reader, data: dict[str, Any], variable: str, value: Any) -> None:
    """Puts what a variable such as NANOBOT_GATEWAY__PORT says over what the file says."""
    path, kind = _find(variable[len(_PREFIX) :].split("__"))
    if kind is None:
        reader.warnings.append(f"environment variable {variable}: sets no known key, ignored")
        return
    if kind is not str and value.startswith(("[", "{")):
        with suppress(ValueError):  # then it is refused as text, or is an address such as [::1]:80
            value = json.loads(value)
    _put(data, path, value)
    reader.origins[".".join(path)] = f" (from {variable})"


def _find(steps: list[str]) -> tuple[list[str], Any]:
    """The path of a key given in any spelling, and its type, which is None if there is no such key."""
    kind: Any = Config
    path: list[str] = []
    for step in steps:
        fields = fields_of(kind)
        letters = step.replace("_", "").lower()
        name = next((name for name in fields if name.lower() == letters), None)
        kind = fields[name].annotation if name else entry_of(kind)
        path.append(name or step)
    return path, kind


def _put(data: dict[str, Any], path: list[str], value: object) -> None:
    """Sets what is at `path`, in the spelling that is already there. Raises ConfigError."""
    name = next((name for name in data if path[0] in (name, to_camel(name))), path[0])
    if len(path) == 1:
        data[name] = value
    elif isinstance(data.setdefault(name, {}), dict):
        _put(data[name], path[1:], value)
    else:
        raise ConfigError(f"config.json: {name!r} should be an object. Correct it; the file was not changed.")


def _read_json(path: Path) -> dict[str, Any] | None:
    """The object in the file, or None when there is no file."""
    try:
        raw = path.read_bytes()
        data = json.loads(raw.decode("utf-8-sig"))
    except FileNotFoundError:
        return None
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
    return data


def _refuse(path: Path, problems: list[str]) -> None:
    if problems:
        lines = "\n  ".join(problems)
        raise ConfigError(f"{path} cannot be used. Correct this; the file was not changed:\n  {lines}")


def _write(path: Path, data: Mapping[str, Any]) -> None:
    paths.make_private_dir(path.resolve().parent)
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    paths.write_atomic(path, text.encode(errors="backslashreplace"))  # half a \\u pair stays its JSON escape
