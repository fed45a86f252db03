"""What went wrong at a provider, as an error the owner can act on.

Whether a call is tried again follows from the status and the provider's error code alone. Text is
read only to choose between errors that are not retried.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nanobot.errors import (
    AuthError,
    BadRequestError,
    BrokenStreamError,
    ContextTooLongError,
    OverloadedError,
    ProviderError,
    QuotaError,
    RateLimitError,
    UnreachableError,
)

_DETAIL_CHARS = 300
_LONGEST_ASKED = 30 * 86_400.0
# Patterns are compiled when something has gone wrong, not at every start.
_KEY_LIKE = r"\b(sk-|gsk_|pk-|xai-|AIza)[A-Za-z0-9_-]{16,}"
_MARKUP = r"(?is)<(script|style)\b.*?</\1>|<[^>]*>"
_TOO_LONG = (
    r"context.{0,20}(length|window|limit|size)|maximum.{0,20}(context|prompt)|too (long|many (input )?tokens)"
    r"|prompt.{0,20}(exceed|too large)|input.{0,20}exceed.{0,40}tokens|reduce the length"
)
_OUT_OF_CREDIT = r"credit balance|insufficient (balance|credit|funds|quota)|arrear"
_RATE_LIMIT, _AUTH, _QUOTA, _BAD, _LARGE, _SERVER = 429, 401, 402, 400, 413, 500

# Error codes and types as the providers document them. OpenAI: guides/error-codes; Anthropic:
# api/errors; Zhipu: api-code (1xxx); MiniMax: errorcode (1002, 1004, 1008, 2013).
_STATUS_OF_CODE = {
    "insufficient_quota": _QUOTA,
    "billing_error": _QUOTA,
    "billing_hard_limit_reached": _QUOTA,
    "billing_not_active": _QUOTA,
    "exceeded_current_quota_error": _QUOTA,
    "insufficient_balance": _QUOTA,
    "arrearage": _QUOTA,
    "1113": _QUOTA,
    "1008": _QUOTA,
    "context_length_exceeded": _LARGE,
    "string_above_max_length": _LARGE,
    "request_too_large": _LARGE,
    "exceed_context_size_error": _LARGE,
    "rate_limit_exceeded": _RATE_LIMIT,
    "rate_limit_error": _RATE_LIMIT,
    "resource_exhausted": _RATE_LIMIT,
    "1002": _RATE_LIMIT,
    "authentication_error": _AUTH,
    "invalid_api_key": _AUTH,
    "1004": _AUTH,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "invalid_request_error": _BAD,
    "2013": _BAD,
    "server_error": _SERVER,
    "api_error": _SERVER,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_OVERRIDING = {_QUOTA, _LARGE}

_BUSY = (OverloadedError, "{title} could not take the request now ({status}){said}. {when}")
_KINDS: dict[int, tuple[type[ProviderError], str]] = {
    401: (
        AuthError,
        "{title} {refusal} ({status}). Check {key} in config.json or run `nanobot onboard`.",
    ),
    402: (
        QuotaError,
        "{title} says the account has no credit left ({status}). Top it up or use another model.",
    ),
    403: (AuthError, "{title} denies access ({status}){said}. Check the account behind {key}."),
    404: (
        BadRequestError,
        "{title} at {base} does not know the model {model!r} ({status}){said}. "
        "Check the model name and {base_key} in config.json.",
    ),
    408: _BUSY,
    409: _BUSY,
    413: (
        ContextTooLongError,
        "The conversation is too long for {model} at {title} ({status}). "
        "Start a new one with /new or use a model with a larger window.",
    ),
    425: _BUSY,
    429: (RateLimitError, "{title} limits requests ({status}){said}. {when}"),
}


@dataclass(frozen=True)
class Complaint:
    """What a provider says is wrong: its words, and its codes in lower case."""

    message: str = ""
    codes: tuple[str, ...] = ()
    retry_after: float | None = None

    @property
    def status(self) -> int | None:
        """The HTTP status its codes stand for."""
        for code in self.codes:
            if code in _STATUS_OF_CODE:
                return _STATUS_OF_CODE[code]
            if re.fullmatch(r"[45]\d\d", code):
                return int(code)
        return None


def read_complaint(body: Any) -> Complaint | None:
    """The error in a JSON body or stream event of any provider, or None if there is none."""
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, Mapping):
        return None
    base = body.get("base_resp")
    if isinstance(base, Mapping) and base.get("status_code"):
        return Complaint(str(base.get("status_msg") or ""), (str(base["status_code"]),))
    error = body.get("error")
    if error is None and "choices" not in body and ("detail" in body or "message" in body):
        error = body
    if not error:
        return None
    if not isinstance(error, Mapping):
        return Complaint(str(error))
    codes = tuple(str(error[key]).lower() for key in ("code", "type", "status") if error.get(key))
    message = error.get("message") or error.get("detail") or ""
    return Complaint(
        message if isinstance(message, str) else json.dumps(message), codes, _delay_in(error.get("details"))
    )


def _delay_in(details: Any) -> float | None:
    """Gemini's RetryInfo: `{"retryDelay": "34s"}`, in seconds."""
    for item in details if isinstance(details, list) else ():
        if isinstance(item, Mapping) and "retryDelay" in item:
            return _seconds(str(item["retryDelay"]).removesuffix("s"))
    return None


def read_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """The wait a response asks for, in seconds: `retry-after-ms`, or `retry-after` (RFC 9110, 10.2.3)."""
    milliseconds = _seconds(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after", "")
    seconds = _seconds(value)
    if seconds is not None or not value:
        return seconds
    from email.utils import parsedate_to_datetime

    try:
        return min(max(0.0, parsedate_to_datetime(value).timestamp() - now), _LONGEST_ASKED)
    except (ValueError, OverflowError):
        return None


def _seconds(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return min(max(0.0, number), _LONGEST_ASKED) if math.isfinite(number) else None


class Failures:
    """Builds the errors of one endpoint. No text it makes contains one of `secrets`."""

    def __init__(
        self,
        name: str,
        title: str,
        base: str,
        secrets: tuple[str, ...],
        *,
        longest_wait: float,
        clock: Callable[[], float],
    ) -> None:
        self._key = f"providers.{name}.apiKey"
        self._base_key = f"providers.{name}.apiBase"
        self._title = title
        self._refusal = "refused the key" if any(secrets) else "wants a key"
        words = {word for secret in secrets for word in (secret, *secret.split()) if len(word) >= 8}
        self._secrets = sorted(words, key=len, reverse=True)
        self._base = self._clean(_without_credentials(base))
        self._longest_wait = longest_wait
        self._clock = clock

    def of_response(self, status: int, headers: Mapping[str, str], text: str, model: str) -> ProviderError:
        """The error for a response whose status is no success."""
        try:
            complaint = read_complaint(json.loads(text)) or Complaint()
        except (ValueError, RecursionError):
            complaint = Complaint(text)
        asked = read_retry_after(headers, self._clock())
        wait = asked if asked is not None else complaint.retry_after
        meant = complaint.status if complaint.status in _OVERRIDING and status < _SERVER else status
        error = self._build(meant or status, status, complaint, wait, model)
        should_retry = headers.get("x-should-retry", "").lower()
        if should_retry in ("true", "false") and not isinstance(error, QuotaError):
            error.retryable = should_retry == "true"
        return self._capped(error)

    def of_event(self, complaint: Complaint, model: str) -> ProviderError:
        """The error a provider reports inside of a stream it began with 200."""
        status = complaint.status
        if status is None:
            said = self._said(complaint)
            return OverloadedError(f"{self._title} broke off with an error{said}. Try again.")
        return self._capped(self._build(status, status, complaint, complaint.retry_after, model))

    def broken(self, what: str, excerpt: str = "") -> BrokenStreamError:
        shown = self._clean(excerpt)
        return BrokenStreamError(
            f"The answer of {self._title} is unusable: {what}{f' ({shown!r})' if shown else ''}. Try again."
        )

    def unreachable(self, reason: str, *, retryable: bool = True) -> UnreachableError:
        error = UnreachableError(
            f"Cannot reach {self._title} at {self._base}: {self._clean(reason) or 'no connection'}. "
            f"Check the network and {self._base_key} in config.json."
        )
        error.retryable = retryable
        return error

    def silent(self, seconds: float) -> UnreachableError:
        return UnreachableError(
            f"{self._title} at {self._base} gave no answer within {seconds:g} seconds. Try again later."
        )

    def bad_header(self, header: str) -> AuthError:
        return AuthError(
            f"The header {header} for {self._title} holds a character that no header may have. "
            f"Copy {self._key} or extraHeaders into config.json again."
        )

    def _build(
        self, meant: int, status: int, complaint: Complaint, wait: float | None, model: str
    ) -> ProviderError:
        if meant in (_BAD, 422):
            meant = _by_words(complaint.message)
        kind, template = _kind_of(meant)
        text = template.format(
            title=self._title,
            refusal=self._refusal,
            status=status,
            said=self._said(complaint),
            key=self._key,
            base=self._base,
            base_key=self._base_key,
            model=model,
            when=self._when(wait),
        )
        return kind(text, status=status, retry_after=wait)

    def _capped(self, error: ProviderError) -> ProviderError:
        """A wait that is longer than anybody would sit through is not waited for."""
        if error.retry_after is not None and error.retry_after > self._longest_wait:
            error.retryable = False
        return error

    def _when(self, wait: float | None) -> str:
        if wait is None or wait <= self._longest_wait:
            return "Try again in a moment."
        at = time.strftime("%H:%M", time.localtime(self._clock() + wait))
        return f"Try again in {math.ceil(wait / 60)} minutes (at {at}) or use another model."

    def _said(self, complaint: Complaint) -> str:
        detail = self._clean(complaint.message).rstrip(".")
        return f": {detail}" if detail else ""

    def _clean(self, text: str) -> str:
        """`text` as one short line without markup and secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = re.sub(_KEY_LIKE, r"\1***", re.sub(_MARKUP, " ", text[:8_000]))
        text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
        return text if len(text) <= _DETAIL_CHARS else f"{text[:_DETAIL_CHARS]}…"


def _kind_of(status: int) -> tuple[type[ProviderError], str]:
    if status in _KINDS:
        return _KINDS[status]
    if status >= _SERVER:
        return OverloadedError, "{title} is failing or overloaded ({status}){said}. {when}"
    if status < _BAD:
        return BadRequestError, "{title} redirects elsewhere ({status}). Check {base_key} in config.json."
    return BadRequestError, "{title} refused the request for {model} ({status}){said}."


def _by_words(message: str) -> int:
    """Tells apart what providers lump together under 400; none of these is retried."""
    if re.search(_OUT_OF_CREDIT, message, re.IGNORECASE):
        return _QUOTA
    return _LARGE if re.search(_TOO_LONG, message, re.IGNORECASE) else _BAD


def _without_credentials(base: str) -> str:
    return re.sub(r"//[^/?]*@", "//", base).partition("?")[0]
