"""Inbound and outbound messages as rows. Fields that a newer nanobot has added are left out."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from nanobot.messages import Address, Attachment, InboundMessage, OutboundMessage, Quoted, known_fields
from nanobot.store.sqlite import Row

log = logging.getLogger(__name__)

# The fields of an inbound message that have columns: what SQL decides by. All others are in its body.
IN_COLUMNS = ("channel", "external_id", "source", "trust", "family", "owner")
# What reading a row raises when another version, or a bad disk, has written it.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError)


def to_json(message: InboundMessage | OutboundMessage, leave_out: Collection[str] = ()) -> str:
    body = {name: value for name, value in asdict(message).items() if name not in leave_out}
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace").decode()


def _attachments(body: Mapping[str, Any]) -> tuple[Attachment, ...]:
    return tuple(Attachment(**known_fields(Attachment, item)) for item in body.get("attachments", ()))


def inbound_of(row: Row) -> InboundMessage:
    body = json.loads(row["body"])
    quoted = tuple(Quoted(**known_fields(Quoted, item)) for item in body.get("quoted", ()))
    reply_to = Address(**known_fields(Address, body["reply_to"])) if body.get("reply_to") else None
    fields = known_fields(InboundMessage, body) | {name: row[name] for name in IN_COLUMNS}
    typed = {"attachments": _attachments(body), "quoted": quoted, "reply_to": reply_to}
    return InboundMessage(**fields | typed)


def outbound_of(row: Row) -> OutboundMessage | None:
    """The message in a row of the outbox, if it can be read."""
    try:
        body = json.loads(row["body"])
        typed = {"attachments": _attachments(body)}
        return OutboundMessage(**known_fields(OutboundMessage, body) | typed)
    except UNREADABLE as error:
        log.error("The message %d in the outbox cannot be read: %r", row["id"], error)
        return None
