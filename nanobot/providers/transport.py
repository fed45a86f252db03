"""One streaming call over HTTP: connection, timeouts, retries, event stream.

A wire protocol subclasses `WireProvider` with two pure functions, the body of a request and the
reader of an answer. Everything that can go wrong on the way there and back is dealt with here, once.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nanobot import __version__
from nanobot.errors import NoProviderError, ProviderError
from nanobot.providers.answer import AnswerReader
from nanobot.providers.base import ModelEvent, ModelRequest, ModelTraits, Retrying
from nanobot.providers.conversation import encode_json
from nanobot.providers.failures import Failures
from nanobot.providers.registry import ProviderSpec, traits_of
from nanobot.providers.sse import EventParser, EventTooLong

if TYPE_CHECKING:
    import httpx2

_ERROR_BODY_BYTES = 64 * 1024
_JSON_BODY_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class TransportSettings:
    """Times are seconds. Randomness, sleep and clock are injected so that tests and replays control them.

    `first_byte_timeout` bounds the wait for the response and for its first byte, `idle_timeout` the
    wait between bytes. `settled_timeout` replaces it once the answer is complete and only usage or
    `[DONE]` may follow, `drain_timeout` once nothing may follow.
    """

    connect_timeout: float = 10.0
    first_byte_timeout: float = 120.0
    idle_timeout: float = 90.0
    settled_timeout: float = 5.0
    drain_timeout: float = 0.2
    max_retries: int = 3
    backoff: float = 1.0
    longest_wait: float = 60.0
    random: Callable[[], float] = field(default_factory=lambda: random.Random().random)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.time


class WireProvider(ABC):
    """A provider reached by HTTP. Implements `nanobot.providers.base.Provider`.

    `api_base` defaults to the provider's public one. `traits` overrides what the registry knows about
    the model. An `http` client that is handed in is used as it is and closed by `aclose`.
    """

    def __init__(
        self,
        spec: ProviderSpec,
        *,
        api_key: str = "",
        api_base: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
        traits: ModelTraits | None = None,
        settings: TransportSettings | None = None,
        http: httpx2.AsyncClient | None = None,
    ) -> None:
        self.spec = spec
        self.api_base = (api_base or spec.default_api_base).strip()
        self.settings = settings or TransportSettings()
        self._api_key = api_key.strip()
        self._extra_headers = dict(extra_headers or {})
        self._traits = traits
        self._http = http
        self.failures = Failures(
            spec.name,
            spec.title,
            self.api_base,
            (self._api_key, *self._extra_headers.values()),
            longest_wait=self.settings.longest_wait,
            clock=self.settings.clock,
        )

    @property
    def name(self) -> str:
        return self.spec.name

    def traits(self, model: str) -> ModelTraits:
        return self._traits or traits_of(self.spec, model)

    async def aclose(self) -> None:
        if self._http is not None:
            http, self._http = self._http, None
            await http.aclose()

    @abstractmethod
    def url(self) -> str:
        """Where requests go."""

    @abstractmethod
    def auth_headers(self, api_key: str) -> dict[str, str]:
        """The headers of this wire beyond those every request has. `api_key` may be empty."""

    @abstractmethod
    def body(self, request: ModelRequest) -> dict[str, Any]:
        """The JSON body of `request`."""

    @abstractmethod
    def reader(self, request: ModelRequest) -> AnswerReader: ...

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Yield chunks and end with a Completion, or raise a ProviderError once retries are used up."""
        body = encode_json(self.body(request))
        headers = self._headers()
        attempt = 0
        while True:
            shown = False
            try:
                async with aclosing(self._attempt(request, headers, body)) as events:
                    async for event in events:
                        shown = True
                        yield event
                return
            except ProviderError as error:
                if not error.retryable or attempt >= self.settings.max_retries:
                    raise
                reason = str(error)
                delay = self._delay(error.retry_after, attempt)
            yield Retrying(reason, delay, discard=shown)
            await self.settings.sleep(delay)
            attempt += 1

    def _delay(self, asked: float | None, attempt: int) -> float:
        """Exponential with jitter (half to all of the step), unless the provider asked for a wait."""
        if asked is not None:
            return asked
        return float(self.settings.backoff * 2**attempt * (0.5 + self.settings.random() / 2))

    async def _attempt(
        self, request: ModelRequest, headers: dict[str, str], body: bytes
    ) -> AsyncGenerator[ModelEvent, None]:
        reader = self.reader(request)
        with _translated(self.failures):
            async with self._response(headers, body) as response:
                if not response.is_success:
                    text = await self._error_text(response)
                    raise self.failures.of_response(
                        response.status_code, response.headers, text, request.model
                    )
                async with aclosing(self._events(response, reader)) as events:
                    async for event in events:
                        yield event
        yield reader.completion()

    @asynccontextmanager
    async def _response(self, headers: dict[str, str], body: bytes) -> AsyncIterator[httpx2.Response]:
        http = self._client()
        outgoing = http.build_request("POST", self.url(), headers=headers, content=body)
        try:
            async with asyncio.timeout(self.settings.first_byte_timeout):
                response = await http.send(outgoing, stream=True)
        except TimeoutError:
            raise self.failures.silent(self.settings.first_byte_timeout) from None
        try:
            yield response
        finally:
            await response.aclose()

    async def _events(
        self, response: httpx2.Response, reader: AnswerReader
    ) -> AsyncGenerator[ModelEvent, None]:
        """What `reader` makes of the body. Its first character tells events from one JSON value."""
        parser = EventParser()
        head = bytearray()
        is_stream = False
        async with aclosing(self._chunks(response, reader)) as chunks:
            async for chunk in chunks:
                if not is_stream and len(head) < _JSON_BODY_BYTES:
                    head += chunk
                    if _begins_as_json(head):
                        continue
                for data in self._parsed(parser.feed(chunk)):
                    is_stream = True
                    for event in reader.feed_text(data):
                        yield event
        for data in parser.close():
            is_stream = True
            for event in reader.feed_text(data):
                yield event
        if not is_stream:
            text = head.decode("utf-8", "replace")
            if not _begins_as_json(head):
                raise self.failures.broken("it is no event stream", text)
            for event in reader.feed_body(text):
                yield event

    def _parsed(self, events: Iterator[str]) -> Iterator[str]:
        try:
            yield from events
        except EventTooLong:
            raise self.failures.broken("a part of it is endless") from None

    async def _chunks(self, response: httpx2.Response, reader: AnswerReader) -> AsyncGenerator[bytes, None]:
        """The body until the reader is done, each chunk awaited no longer than the settings allow."""
        import httpx2

        limit = self.settings.first_byte_timeout
        async with aclosing(response.aiter_bytes()) as chunks:
            while True:
                try:
                    async with asyncio.timeout(limit):
                        chunk = await anext(chunks, None)
                except (TimeoutError, httpx2.TransportError) as error:
                    if reader.settled or reader.done:
                        return
                    if isinstance(error, TimeoutError):
                        raise self.failures.broken(f"nothing came for {limit:g} seconds") from None
                    raise
                if chunk is None or reader.done:
                    # The read after the last event lets the connection be used again.
                    return
                yield chunk
                limit = self._limit(reader)

    def _limit(self, reader: AnswerReader) -> float:
        if reader.done:
            return self.settings.drain_timeout
        return self.settings.settled_timeout if reader.settled else self.settings.idle_timeout

    async def _error_text(self, response: httpx2.Response) -> str:
        """The body of a refusal, as far as it comes. Its status says enough if it does not."""
        import httpx2

        body = b""
        try:
            async with asyncio.timeout(self.settings.settled_timeout):
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _ERROR_BODY_BYTES:
                        break
        except (TimeoutError, httpx2.HTTPError):
            pass
        return body[:_ERROR_BODY_BYTES].decode("utf-8", "replace")

    def _headers(self) -> dict[str, str]:
        """All headers; `extraHeaders` replace ours of the same name. Raises AuthError for impossible ones."""
        headers = {
            "accept": "text/event-stream",
            "accept-encoding": "identity",
            "content-type": "application/json",
            "user-agent": f"nanobot/{__version__}",
            **self.auth_headers(self._api_key),
        }
        headers.update({name.lower(): value for name, value in self._extra_headers.items()})
        for name, value in headers.items():
            # The HTTP library would say so too, quoting the key.
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9a-z-]+", name) or not re.fullmatch(r"[\t -~]*", value):
                raise self.failures.bad_header(name)
        return headers

    def _client(self) -> httpx2.AsyncClient:
        if self._http is None:
            import httpx2

            if not self.api_base:
                key = f"providers.{self.spec.name}.apiBase"
                raise NoProviderError(f"{self.spec.title} has no address. Set {key} in config.json.")
            local = _is_plain_loopback(self.api_base)
            try:
                self._http = httpx2.AsyncClient(
                    # Plain HTTP never uses the trust store; https is always verified.
                    verify=not local,
                    trust_env=not local,
                    timeout=httpx2.Timeout(None, connect=self.settings.connect_timeout),
                    # A tool may well run for longer than the default of 5 seconds.
                    limits=httpx2.Limits(keepalive_expiry=60.0),
                )
            except (ImportError, ValueError) as error:
                reason = f"the proxy that the environment names cannot be used: {error}"
                raise self.failures.unreachable(reason, retryable=False) from None
        return self._http


@contextmanager
def _translated(failures: Failures) -> Iterator[None]:
    """Errors of the HTTP library as ours."""
    import httpx2

    try:
        yield
    except (httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
        raise failures.unreachable(str(error), retryable=False) from None
    except httpx2.ConnectTimeout:
        raise failures.unreachable("no connection in time") from None
    except httpx2.ConnectError as error:
        raise failures.unreachable(str(error), retryable=not _is_certificate_error(error)) from None
    except (httpx2.ReadError, httpx2.RemoteProtocolError) as error:
        raise failures.broken(f"the connection broke ({type(error).__name__})") from None
    except httpx2.DecodingError:
        raise failures.broken("its compression is damaged") from None
    except httpx2.RequestError as error:
        raise failures.unreachable(f"{type(error).__name__} {error}") from None


def _is_certificate_error(error: BaseException | None) -> bool:
    import ssl

    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_plain_loopback(base: str) -> bool:
    return re.match(r"http://(localhost|127\.[\d.]+|\[::1\])(:\d+)?([/?]|$)", base.lower()) is not None


def _begins_as_json(head: bytearray) -> bool:
    return head[:1024].lstrip().startswith((b"{", b"["))
