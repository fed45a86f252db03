"""The parameters of each Bot API method we serve: https://core.telegram.org/bots/api#available-methods

A trailing `!` marks a required one. Telegram ignores names it does not know; here they are an error.
"""

from __future__ import annotations

import json
from typing import Any

from tests.peers.telegram_http import Form, Upload

_TARGET = {
    "business_connection_id": "str",
    "chat_id": "chat!",
    "message_thread_id": "int",
    "direct_messages_topic_id": "int",
}
_SEND = {
    **_TARGET,
    "disable_notification": "bool",
    "protect_content": "bool",
    "allow_paid_broadcast": "bool",
    "message_effect_id": "str",
    "suggested_post_parameters": "json",
    "reply_parameters": "json",
    "reply_to_message_id": "int",
    "allow_sending_without_reply": "bool",
    "reply_markup": "json",
}
_CAPTION = {"caption": "str", "parse_mode": "str", "caption_entities": "json"}
_COMMANDS = {"scope": "json", "language_code": "str"}

PARAMETERS: dict[str, dict[str, str]] = {
    "getMe": {},
    "getUpdates": {"offset": "int", "limit": "int", "timeout": "int", "allowed_updates": "json"},
    "deleteWebhook": {"drop_pending_updates": "bool"},
    "getWebhookInfo": {},
    "setMyCommands": {"commands": "json!", **_COMMANDS},
    "getMyCommands": _COMMANDS,
    "deleteMyCommands": _COMMANDS,
    "sendMessage": {
        **_SEND,
        "text": "str",
        "parse_mode": "str",
        "entities": "json",
        "link_preview_options": "json",
        "disable_web_page_preview": "bool",
    },
    "editMessageText": {
        "business_connection_id": "str",
        "chat_id": "chat",
        "message_id": "int",
        "inline_message_id": "str",
        "text": "str",
        "parse_mode": "str",
        "entities": "json",
        "link_preview_options": "json",
        "disable_web_page_preview": "bool",
        "reply_markup": "json",
    },
    "deleteMessage": {"chat_id": "chat!", "message_id": "int!"},
    "sendChatAction": {**_TARGET, "action": "str!"},
    "sendPhoto": {
        **_SEND,
        **_CAPTION,
        "photo": "file!",
        "show_caption_above_media": "bool",
        "has_spoiler": "bool",
    },
    "sendDocument": {
        **_SEND,
        **_CAPTION,
        "document": "file!",
        "thumbnail": "file",
        "disable_content_type_detection": "bool",
    },
    "sendVoice": {**_SEND, **_CAPTION, "voice": "file!", "duration": "int"},
    "sendAudio": {
        **_SEND,
        **_CAPTION,
        "audio": "file!",
        "duration": "int",
        "performer": "str",
        "title": "str",
        "thumbnail": "file",
    },
    "sendVideo": {
        **_SEND,
        **_CAPTION,
        "video": "file!",
        "duration": "int",
        "width": "int",
        "height": "int",
        "thumbnail": "file",
        "cover": "file",
        "start_timestamp": "int",
        "show_caption_above_media": "bool",
        "has_spoiler": "bool",
        "supports_streaming": "bool",
    },
    "setMessageReaction": {"chat_id": "chat!", "message_id": "int!", "reaction": "json", "is_big": "bool"},
    "getFile": {"file_id": "str!"},
    "getChat": {"chat_id": "chat!"},
    "answerCallbackQuery": {
        "callback_query_id": "str!",
        "text": "str",
        "show_alert": "bool",
        "url": "str",
        "cache_time": "int",
    },
}
METHODS = {name.lower(): name for name in PARAMETERS}


class WrongParameter(Exception):
    """What Telegram answers after `Bad Request: `. `unknown` marks what only this server refuses."""

    def __init__(self, message: str, *, unknown: bool = False) -> None:
        super().__init__(message)
        self.unknown = unknown


def read_parameters(method: str, form: Form) -> dict[str, Any]:
    """Typed values by name; absent ones are left out. Raises WrongParameter."""
    kinds = PARAMETERS[method]
    attached = {name for name in form.files if f"attach://{name}" in map(str, form.fields.values())}
    unknown = (form.fields.keys() | form.files.keys()) - kinds.keys() - attached
    if unknown:
        raise WrongParameter(f"{method} has no parameter {sorted(unknown)}", unknown=True)
    values: dict[str, Any] = {}
    for name, kind in kinds.items():
        raw = form.files.get(name, form.fields.get(name))
        if raw is None or raw == "":
            if kind.endswith("!"):
                raise WrongParameter(_missing(name))
            continue
        values[name] = _typed(name, kind.rstrip("!"), raw, form)
    return values


def _missing(name: str) -> str:
    return {"chat_id": "chat_id is empty", "action": "wrong parameter action in request"}.get(
        name, f"parameter {name} is required"
    )


def _typed(name: str, kind: str, raw: Any, form: Form) -> Any:
    try:
        match kind:
            case "int":
                return int(raw)
            case "bool":
                return {"true": True, "1": True, "false": False, "0": False}[str(raw).lower()]
            case "json":
                return json.loads(raw) if isinstance(raw, str) else raw
            case "chat":
                return raw if str(raw).startswith("@") else int(raw)
            case "file":
                return _file(str(raw), form) if not isinstance(raw, Upload) else raw
            case _:
                return str(raw)
    except (ValueError, KeyError, TypeError) as error:
        raise WrongParameter("chat not found" if kind == "chat" else f"can't parse {name}") from error


def _file(raw: str, form: Form) -> Upload | str:
    return form.files[raw.removeprefix("attach://")] if raw.startswith("attach://") else raw
