"""What went wrong at a provider, as an error the owner can act on.

Whether a call is tried again follows from the status and the provider's error code alone. Text is
read only to choose between errors that are not retried.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from nanobot import errors
from nanobot.config.proxies import without_secrets
from nanobot.errors import ProviderError
from nanobot.providers.registry import ProviderSpec

_DETAIL_CHARS = 300
_LONGEST_WAIT = 60.0  # seconds; nobody would sit through more
_LONGEST_ASKED = 30 * 86_400.0
_KEY_LIKE = r"\b(sk-|gsk_|pk-|xai-|AIza)[A-Za-z0-9_-]{16,}"
_MARKUP = r"(?is)<(script|style)\b.*?</\1>|<[^>]*>"
_TOO_LONG = (
    r"(?i)context.{0,20}(length|window|limit|size)|maximum.{0,20}(context|prompt|model len)|reduce the length"
    r"|too (long|many (input )?tokens)|(prompt|input|payload).{0,40}(exceed|too large|超长)"
    r"|(exceed|less than|range of).{0,30}(token limit|message tokens|max_seq_len|input length)"
)
_OUT_OF_CREDIT = r"(?i)credit balance|insufficient (balance|credit|funds|quota)|arrear"

# The status that an error code or type stands for, as the providers document them: OpenAI guides/error-codes,
# Anthropic api/errors, Zhipu api-code (1113), MiniMax errorcode (1002, 1004, 1008, 2013).
_CODES = {
    400: {"invalid_request_error", "2013"},
    401: {"authentication_error", "invalid_api_key", "1004"},
    402: {
        *("insufficient_quota", "billing_error", "billing_hard_limit_reached", "billing_not_active"),
        *("exceeded_current_quota_error", "insufficient_balance", "arrearage", "1113", "1008"),
    },
    403: {"permission_error"},
    404: {"not_found_error", "model_not_found"},
    413: {"context_length_exceeded", "request_too_large", "exceed_context_size_error", "1261"},
    429: {"rate_limit_exceeded", "rate_limit_error", "resource_exhausted", "1002"},
    500: {"server_error", "api_error", "timeout_error", "overloaded_error"},
}
# What an error is, what the provider does there, and what the owner can do about it.
_KINDS: dict[int, tuple[type[ProviderError], str, str]] = {
    300: (errors.BadRequestError, "redirects elsewhere", "Check {at.base_key}."),
    400: (errors.BadRequestError, "refused the request", ""),
    401: (errors.AuthError, "wants a valid key", "Check {at.key} or run `nanobot onboard`."),
    402: (errors.QuotaError, "says that no credit is left", "Top it up or use another model."),
    403: (errors.AuthError, "denies access", "Check the account behind {at.key}."),
    404: (errors.BadRequestError, "does not know the model", "Check its name and {at.base_key}."),
    407: (errors.AuthError, "is behind a proxy that wants a login", "Put it into the address of {at.proxy}."),
    413: (errors.ContextTooLongError, "cannot read that much", "Begin anew with /new or use a larger model."),
    429: (errors.RateLimitError, "limits requests", "{when}"),
    500: (errors.OverloadedError, "is failing or overloaded", "{when}"),
}


def error_in(body: Any) -> Any:
    """The error that a JSON body or stream event of any provider reports; None if there is none."""
    if isinstance(body, list) and body:
        body = body[0]  # Gemini
    if not isinstance(body, Mapping):
        return None
    base = body.get("base_resp")  # MiniMax
    if isinstance(base, Mapping) and base.get("status_code"):
        return base
    return body.get("error") or (body if body.get("object") == "error" else None)


def _read_error(error: Any) -> tuple[str, int | None]:
    """The words of an error, and the HTTP status its codes stand for."""
    if not isinstance(error, Mapping):
        return str(error or ""), None
    codes = [str(error.get(key)).lower() for key in ("code", "type", "status", "status_code")]
    meant = [status for code in codes for status, names in _CODES.items() if code in names]
    meant += [int(code) for code in codes if re.fullmatch(r"[45]\d\d", code)]
    message = error.get("message") or error.get("detail") or error.get("status_msg") or ""
    return message if isinstance(message, str) else json.dumps(message), meant[0] if meant else None


def asked_wait(headers: Mapping[str, str], text: str, now: float) -> float | None:
    """The wait a response asks for, in seconds: by header (RFC 9110, 10.2.3), or by Gemini's RetryInfo."""
    from email.utils import parsedate_to_datetime

    in_body = re.search(r'"retryDelay":\s*"([\d.]+)s"', text)
    asked = headers.get("retry-after") or (in_body[1] if in_body else "")
    try:
        if milliseconds := headers.get("retry-after-ms"):
            wait = float(milliseconds) / 1000
        elif asked.endswith("GMT"):
            wait = parsedate_to_datetime(asked).timestamp() - now
        else:
            wait = float(asked)
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, wait), _LONGEST_ASKED) if math.isfinite(wait) else None


class Failures:
    """Builds the errors of one endpoint. No text it makes contains one of `secrets`."""

    def __init__(self, spec: ProviderSpec, base: str = "", secrets: tuple[str, ...] = ()) -> None:
        words = [word for secret in secrets for word in (secret, *secret.split()) if len(word) >= 8]
        self._secrets = sorted(words, key=len, reverse=True)
        self.title = spec.title
        self.base = self._clean(without_secrets(base))
        self.proxy = ""  # on the way there
        self.base_key = f"providers.{spec.name}.apiBase in config.json"
        self.key = f"providers.{spec.name}.apiKey in config.json"

    def of_response(
        self, status: int, headers: Mapping[str, str], text: str, *, model: str, now: float
    ) -> ProviderError:
        """The error for a response whose status is no success. `now` is Unix time."""
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            body = text
        said, meant = _read_error(error_in(body) or body)
        wait = asked_wait(headers, text, now)
        is_clear = meant in (402, 413) and status < 500
        error = self._build(meant if meant and is_clear else status, status, said, wait, model)
        should_retry = headers.get("x-should-retry", "").lower()
        if should_retry in ("true", "false") and not isinstance(error, errors.QuotaError):
            error.retryable = should_retry == "true"
        if wait is not None and wait > _LONGEST_WAIT:
            error.retryable = False
        return error

    def of_event(self, error: Any, model: str) -> ProviderError:
        """The error a provider reports inside of a stream that began with 200."""
        said, meant = _read_error(error)
        return self._build(meant or 500, meant, said, None, model)

    def broken(self, what: str, excerpt: str = "") -> ProviderError:
        shown = f" ({self._clean(excerpt)!r})" if excerpt else ""
        advice = f"Try again; if it stays so, check {self.base_key}."
        return errors.BrokenStreamError(
            f"The answer of {self.title} is unusable: {what}{shown}.", advice=advice
        )

    def unreachable(self, reason: str, *, retryable: bool = True) -> ProviderError:
        why = self._clean(reason).rstrip(".") or "no connection"
        way = f" through the proxy {self.proxy}" if self.proxy else ""
        check = "that proxy, or name the host in no_proxy" if way else f"the network and {self.base_key}"
        said = f"Cannot reach {self.title} at {self.base}{way}: {why}."
        error = errors.UnreachableError(said, advice=f"Check {check}.")
        error.retryable = retryable
        return error

    def _build(
        self, meant: int, status: int | None, said: str, wait: float | None, model: str
    ) -> ProviderError:
        if meant in (400, 422):  # what providers lump together here is told apart by its words
            meant = 402 if re.search(_OUT_OF_CREDIT, said) else 413 if re.search(_TOO_LONG, said) else 400
        if meant not in _KINDS:
            meant = 500 if meant > 500 or meant in (408, 409, 425) else 300 if meant < 400 else 400
        when = "Try again in a moment."
        if wait is not None and wait > _LONGEST_WAIT:
            when = f"Try again in {math.ceil(wait / 60)} minutes or use another model."
        kind, does, advice = _KINDS[meant]
        if meant == 401:  # a provider that refuses a key likes to quote a part of it
            said = " ".join("***" if self._quotes(word) else word for word in said[:8_000].split())
        detail = self._clean(said).rstrip(".")
        text = f"{self.title} {does} ({status or 'in the middle of an answer'}, {model})"
        text += f": {detail}." if detail else "."
        return kind(text, advice=advice.format(at=self, when=when), status=status, retry_after=wait)

    def _quotes(self, word: str) -> bool:
        """Whether it may show a part of a key."""
        ends = [end for secret in self._secrets for end in (secret[:4], secret[-4:])]
        return "**" in word or "..." in word or any(end in word for end in ends)

    def _clean(self, text: str) -> str:
        """`text` as one short line without markup and secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = re.sub(_KEY_LIKE, r"\1***", re.sub(_MARKUP, " ", text[:8_000]))
        text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
        return text if len(text) <= _DETAIL_CHARS else f"{text[:_DETAIL_CHARS]}…"
