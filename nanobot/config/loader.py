"""Loads config.json, changes single keys of it, and describes it as a JSON Schema.

The environment beats the file, the file beats the defaults. Nothing here ever replaces a file that
cannot be read, and unknown keys stay where they are. No message quotes a value: it may be a secret.
"""

import difflib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from nanobot import paths
from nanobot.config.channels import ChannelsConfig
from nanobot.config.schema import Config
from nanobot.config.section import entry_of, fields_of
from nanobot.errors import ConfigError

_PREFIX = "NANOBOT_"
_HINTS = dict.fromkeys("]}", "Remove the comma before it. ") | dict.fromkeys("'“”", 'Write " instead. ')
_HINTS |= dict.fromkeys("#/", "Remove the comment, JSON has none. ")
_REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A usable configuration, what is odd about it (for the owner), and the file it came from."""

    config: Config
    warnings: tuple[str, ...]
    path: Path
    exists: bool


def load_config(path: Path | None = None, env: Mapping[str, str] | None = None) -> LoadedConfig:
    """Reads `path` (default: config.json in nanobot's home); a missing file means all defaults.

    Raises ConfigError for an unreadable file, broken JSON, wrong types and unset `${VAR}`s.
    """
    path = paths.config_file() if path is None else path
    data = _read_json(path)
    reader = _Reader(os.environ if env is None else env)
    config = reader.read(data or {})
    _refuse(path, reader.problems)
    return LoadedConfig(config, tuple(reader.warnings), path, data is not None)


def update_config_file(path: Path, changes: Mapping[str, object]) -> None:
    """Sets keys such as `agents.defaults.model` in the file, which is created if missing.

    Everything else in the file stays: unknown keys, order, spelling. Raises ConfigError when the file
    does not parse, a key is unknown or a value has the wrong type; nothing is written then.
    """
    targets = [(_find(dotted.split("."))[0], value) for dotted, value in changes.items()]
    wanted: dict[str, Any] = {}
    for target, value in targets:
        _put(wanted, target, value)
    reader = _Reader({})
    reader.read(wanted, expand=False)
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


def config_schema() -> dict[str, Any]:
    """The JSON Schema of config.json, with keys in camelCase."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


class _Reader:
    """Makes a Config of the object in the file; `warnings` and `problems` name odd and wrong keys."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._origins: dict[str, str] = {}
        self.warnings: list[str] = []
        self.problems: list[str] = []

    def read(self, data: dict[str, Any], *, expand: bool = True) -> Config:
        """The result is only good if there are no `problems` afterwards. Changes `data`."""
        data.pop("$schema", None)
        for variable, text in sorted(self._environment.items()):
            if variable.upper().startswith(_PREFIX) and "__" in variable:
                self._overlay(data, variable, text)
        sections: dict[str, Any] = {}
        for name, value in self._tidy(Config, data, "", expand).items():
            kind: Any = Config.model_fields[name].annotation
            try:  # one by one, so that pydantic compiles validators only for what is given
                sections[name] = kind.model_validate(value)
            except ValidationError as error:
                for fault in error.errors(include_url=False, include_input=False):
                    expected = fault["msg"].replace("Input should be", "expected").partition(" or inst")[0]
                    self._problem(".".join(map(str, (name, *fault["loc"]))), expected)
        return Config.model_construct(**sections)

    def _overlay(self, data: dict[str, Any], variable: str, value: Any) -> None:
        """Puts what a variable such as NANOBOT_GATEWAY__PORT says over what the file says."""
        path, kind = _find(variable[len(_PREFIX) :].split("__"))
        if kind is None:
            self.warnings.append(f"environment variable {variable}: sets no known key, ignored")
            return
        if kind is not str and value.startswith(("[", "{")):
            with suppress(ValueError):  # then it is refused as text, or is an address such as [::1]:80
                value = json.loads(value)
        _put(data, path, value)
        self._origins[".".join(path)] = f" (from {variable})"

    def _tidy(self, kind: Any, value: Any, path: str, expand: bool) -> Any:
        """`value` with the known keys only, in camelCase, and the `${VAR}`s in its texts replaced."""
        if isinstance(value, dict):
            return self._tidy_object(kind, value, path, expand)
        if isinstance(value, list):
            return [self._tidy(None, item, f"{path}.{index}", expand) for index, item in enumerate(value)]
        if isinstance(value, bool) and kind in (int, float, int | None):  # pydantic would take it for 0 or 1
            self._problem(path, "expected a number, not true or false")
        if isinstance(value, str) and expand:
            return _REFERENCE.sub(lambda match: self._variable(match[1], path), value)
        return value

    def _tidy_object(self, kind: Any, data: dict[str, Any], path: str, expand: bool) -> dict[str, Any]:
        fields, entry = fields_of(kind), entry_of(kind)
        expand = expand and data.get("enabled") is not False  # what is switched off needs no variables
        tidy: dict[str, Any] = {}
        for given, value in data.items():
            name = to_camel(given) if to_camel(given) in fields else given
            place = f"{path}.{name}".lstrip(".")
            if name in tidy:
                self.warnings.append(f"{place}: given in two spellings, the first one counts")
            elif name in fields:
                tidy[name] = self._tidy(fields[name].annotation, value, place, expand)
            elif not fields or (
                kind is ChannelsConfig and name in entry_points(group="nanobot.channels").names
            ):
                tidy[name] = self._tidy(entry, value, place, expand)
            else:
                near = difflib.get_close_matches(name, fields, n=1, cutoff=0.7)
                hint = f"did you mean {near[0]}?" if near else "ignored"
                self.warnings.append(f"{place}: unknown key, {hint}")
        return tidy

    def _variable(self, name: str, path: str) -> str:
        if name not in self._environment:
            self._problem(path, f"the environment variable {name} is not set")
        return self._environment.get(name, "")

    def _problem(self, path: str, text: str) -> None:
        self.problems.append(f"{path}{self._origins.get(path, '')}: {text}")


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
