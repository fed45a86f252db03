"""The bodies that Discord's REST calls take, and how it refuses others.

Discord ignores fields it does not know; here they are an error, and a violation that fails the test.
A kind is a type, `text:LIMIT`, or one of the readers at the end; `!` at the end marks what is required.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import BodyPartReader, web

from tests.peers.discord_world import Json

CONTENT_LIMIT, NONCE_LIMIT, FILES_LIMIT = 2000, 25, 10
_FILE_FIELD = re.compile(r"files\[(\d+)\]")
_MESSAGE_FLAGS = 1 << 2 | 1 << 12 | 1 << 13 | 1 << 15
_MESSAGE = {
    "content": f"text:{CONTENT_LIMIT}",
    "embeds": "list",
    "allowed_mentions": "mentions",
    "components": "list",
    "attachments": "list",
    "flags": "flags",
    "tts": "bool",  # no field of an edit, but discord.py sends it there, too
}
_THREAD = {"name": "text:100!", "auto_archive_duration": "int", "rate_limit_per_user": "int"}
FORMS: dict[str, dict[str, str]] = {
    "create_message": {
        **_MESSAGE,
        "nonce": "nonce",
        "enforce_nonce": "bool",
        "message_reference": "reference",
        "sticker_ids": "list",
        "poll": "dict",
    },
    "edit_message": _MESSAGE,
    "create_dm": {"recipient_id": "id!"},
    "thread_from_message": _THREAD,
    "create_thread": {
        **_THREAD,
        "type": "int",
        "invitable": "bool",
        "message": "dict",
        "applied_tags": "list",
    },
    "callback": {"type": "int!", "data": "dict"},
}
CALLBACK_DATA = {
    **{name: kind for name, kind in _MESSAGE.items() if name != "attachments"},
    "attachments": "list",
    "poll": "dict",
}
_COMMAND = {
    "name": "name!",
    "description": "text:100!",
    "type": "int",
    "options": "list",
    "name_localizations": "dict",
    "description_localizations": "dict",
    "default_member_permissions": "text:20",
    "dm_permission": "bool",
    "nsfw": "bool",
    "integration_types": "list",
    "contexts": "list",
}
_OPTION = {
    "type": "int!",
    "name": "name!",
    "description": "text:100!",
    "required": "bool",
    "choices": "list",
    "autocomplete": "bool",
}


class ApiError(Exception):
    """An answer that is no success: HTTP status, Discord's code, and its JSON besides those."""

    def __init__(self, status: int, code: int, message: str, more: Json | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {"message": message, "code": code, **(more or {})}


class Undocumented(ApiError):
    """What only this server refuses, because no client should send it."""

    def __init__(self, message: str) -> None:
        super().__init__(400, 0, message)


@dataclass(frozen=True)
class Form:
    fields: Json
    files: list[tuple[str, bytes]]


def invalid(path: str, code: str, message: str) -> ApiError:
    """`50035 Invalid Form Body` with the error at a path such as `message_reference.message_id`."""
    errors: Json = {"_errors": [{"code": code, "message": message}]}
    for name in reversed(path.split(".")):
        errors = {name: errors}
    return ApiError(400, 50035, "Invalid Form Body", {"errors": errors})


async def read_form(request: web.Request, operation: str) -> Form:
    """The body of a call, checked. Raises ApiError."""
    raw, files = await _body(request)
    if not isinstance(raw, dict):
        raise ApiError(400, 50109, "The request body contains invalid JSON.")
    fields = check(raw, FORMS[operation])
    for number, described in enumerate(fields.get("attachments") or ()):
        known = {"id", "filename", "description", "title", "is_spoiler", "duration_secs", "waveform"}
        if not isinstance(described, dict) or described.keys() - known:
            raise Undocumented(f"attachments[{number}] has undocumented fields: {described!r}")
    return Form(fields, files)


async def _body(request: web.Request) -> tuple[Any, list[tuple[str, bytes]]]:
    if request.content_type == "application/json":
        try:
            return json.loads(await request.read()), []
        except ValueError as error:
            raise ApiError(400, 50109, "The request body contains invalid JSON.") from error
    if request.content_type != "multipart/form-data":
        raise ApiError(400, 50035, f"Unsupported content type {request.content_type!r}")
    payload: Any = {}
    files: dict[int, tuple[str, bytes]] = {}
    async for part in await request.multipart():
        assert isinstance(part, BodyPartReader)
        if part.name == "payload_json":
            payload = json.loads(await part.text())
        elif (numbered := _FILE_FIELD.fullmatch(part.name or "")) and part.filename:
            files[int(numbered[1])] = (part.filename, bytes(await part.read()))
        else:
            raise Undocumented(f"a multipart field {part.name!r}")
    if len(files) > FILES_LIMIT:
        raise ApiError(400, 50035, "Invalid Form Body")
    listed = [str(item.get("id")) for item in payload.get("attachments", ())]
    if listed and sorted(listed) != sorted(str(number) for number in files):
        raise Undocumented(f"attachments {listed} do not name the files {sorted(files)}")
    return payload, [files[number] for number in sorted(files)]


def check(raw: Mapping[str, Any], kinds: Mapping[str, str], at: str = "") -> Json:
    """The known fields of an object. Raises ApiError."""
    if unknown := raw.keys() - kinds.keys():
        raise Undocumented(f"undocumented fields {sorted(unknown)} at {at or 'the top'}")
    values: Json = {}
    for name, kind in kinds.items():
        path = f"{at}.{name}" if at else name
        value = raw.get(name)
        if value is not None:
            _check_kind(path, kind.rstrip("!"), value)
            values[name] = value
        elif kind.endswith("!"):
            raise invalid(path, "BASE_TYPE_REQUIRED", "This field is required")
    return values


def _check_kind(path: str, kind: str, value: Any) -> None:
    kind, _, limit = kind.partition(":")
    if kind in _READERS:
        _READERS[kind](path, value)
        return
    wanted: type = {"text": str, "bool": bool, "int": int, "list": list, "dict": dict}[kind]
    if not isinstance(value, wanted) or (kind == "int" and isinstance(value, bool)):
        raise invalid(path, f"{kind.upper()}_TYPE_CONVERT", f"Could not interpret this as {kind}.")
    if limit and len(str(value)) > int(
        limit
    ):  # code points: Discord's API is Python (discord-api-docs #1315)
        raise invalid(path, "BASE_TYPE_MAX_LENGTH", f"Must be {limit} or fewer in length.")


def _id(path: str, value: Any) -> None:
    if not str(value).isdigit() or isinstance(value, bool):
        raise invalid(path, "NUMBER_TYPE_COERCE", f'Value "{value}" is not snowflake.')


def _nonce(path: str, value: Any) -> None:
    if not isinstance(value, str | int) or len(str(value)) > NONCE_LIMIT:
        raise invalid(path, "NONCE_TYPE_TOO_LONG", f"Must be {NONCE_LIMIT} or fewer in length.")


def _flags(path: str, value: Any) -> None:
    if not isinstance(value, int) or value & ~_MESSAGE_FLAGS:
        raise invalid(path, "MESSAGE_FLAGS_INVALID", "These flags cannot be set.")


def _mentions(path: str, value: Any) -> None:
    kinds = {"parse": "list", "roles": "list", "users": "list", "replied_user": "bool"}
    value = check(value, kinds, path)
    parsed = value.get("parse", [])
    if set(parsed) - {"everyone", "users", "roles"}:
        raise invalid(f"{path}.parse", "BASE_TYPE_CHOICES", "Value must be one of the known types.")
    for kind in ("users", "roles"):
        if kind in parsed and value.get(kind):
            message = f'parse:["{kind}"] and {kind}: [ids...] are mutually exclusive.'
            raise invalid(path, "MESSAGE_ALLOWED_MENTIONS_PARSE_EXCLUSIVE", message)


def _reference(path: str, value: Any) -> None:
    kinds = {
        "type": "int",
        "message_id": "id!",
        "channel_id": "id",
        "guild_id": "id",
        "fail_if_not_exists": "bool",
    }
    check(value, kinds, path)


def _name(path: str, value: Any) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"[-_'\w]{1,32}", value) or value != value.lower():
        raise invalid(path, "APPLICATION_COMMAND_INVALID_NAME", "Command name is invalid")


_READERS = {
    "id": _id,
    "nonce": _nonce,
    "flags": _flags,
    "mentions": _mentions,
    "reference": _reference,
    "name": _name,
}


def check_commands(commands: Any) -> list[Json]:
    """The body of a bulk overwrite of commands. Raises ApiError."""
    if not isinstance(commands, list) or len(commands) > 100:
        raise ApiError(400, 30032, "Maximum number of application commands reached (100)")
    for number, command in enumerate(commands):
        check(command, _COMMAND, str(number))
        for place, option in enumerate(command.get("options", ())):
            check(option, _OPTION, f"{number}.options.{place}")
    names = [command["name"] for command in commands]
    if len(set(names)) < len(names):
        raise invalid(
            "name", "APPLICATION_COMMANDS_DUPLICATE_NAME", "Application command names must be unique"
        )
    return commands
