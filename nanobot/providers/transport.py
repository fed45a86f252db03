"""One streaming call over HTTP: connection, timeouts, retries, event stream.

A wire subclasses `WireProvider` with the body of a request and the reader of an answer.
"""

from __future__ import annotations

import asyncio
import codecs
import io
import json
import random
import re
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nanobot import __version__
from nanobot.config.proxies import open_transport, proxy_for
from nanobot.errors import AuthError, ProviderError, UsageError
from nanobot.providers.answer import AnswerReader
from nanobot.providers.base import ModelEvent, ModelRequest, ModelTraits, Retrying
from nanobot.providers.conversation import clean_text, dump_json
from nanobot.providers.failures import Failures
from nanobot.providers.registry import ProviderSpec, traits_of

if TYPE_CHECKING:
    import httpx2

_ERROR_BODY_BYTES = 64 * 1024
MAX_EVENT_CHARS = 16 * 1024 * 1024


class EventParser:
    """The data of server-sent events (WHATWG HTML, 9.2), or at its end a body that held none."""

    def __init__(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True)
        self._line: list[str] = []  # the pieces of the line that has begun
        self._data: list[str] = []  # of the event that has begun
        self._body: list[str] | None = []  # all lines, until there is an event
        self._size = 0  # characters of these

    def feed(self, chunk: bytes, *, final: bool = False) -> Iterator[str]:
        """The events that `chunk` completes. Raises OverflowError beyond MAX_EVENT_CHARS."""
        first, *others = self._decoder.decode(chunk, final).split("\n")
        self._line.append(first)
        self._size += len(first)
        for other in others:
            yield from self._end_line("".join(self._line))
            self._line = [other]
            self._size += len(other)
        if self._size > MAX_EVENT_CHARS:
            raise OverflowError

    def close(self) -> Iterator[str]:
        """The last event if only its empty line is missing, or the body that held none."""
        yield from self.feed(b"", final=True)
        yield from self._end_line("")
        body = "\n".join([*(self._body or ()), "".join(self._line)]).strip()
        if self._body is not None and body.startswith(("{", "[", "<")):
            yield body

    def _end_line(self, line: str) -> Iterator[str]:
        if self._body is not None:
            self._body.append(line)
        if line.startswith("data:"):
            self._data.append(line[5:].removeprefix(" "))
        elif not line:
            if any(self._data):
                self._body = None
                yield "\n".join(self._data)
            self._data = []
            if self._body is None:
                self._size = 0


@dataclass(frozen=True)
class TransportSettings:
    """Times are seconds. Randomness, sleep and clock are injected so that tests and replays control them."""

    connect_timeout: float = 10.0
    first_byte_timeout: float = 120.0  # for the response, and for the first byte of its body
    silence_timeout: float = 300.0  # then, until the model says something: some think in silence
    idle_timeout: float = 90.0  # between bytes
    ending_timeout: float = 2.0  # for whatever may follow a finished answer or a refusal's status
    max_retries: int = 3
    patience: float = 150.0  # after which a failed attempt is the last: timeouts are long
    backoff: float = 1.0
    random: random.Random = field(default_factory=random.Random)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.time


class WireProvider(ABC):
    """A provider reached by HTTP (see base.Provider). `traits` overrides what the registry knows."""

    path: str
    models_path = "/models"
    reader_type: type[AnswerReader]

    def __init__(
        self,
        spec: ProviderSpec,
        *,
        api_key: str = "",
        api_base: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
        traits: ModelTraits | None = None,
        settings: TransportSettings | None = None,
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.api_base = (api_base or spec.default_api_base).strip()
        self.settings = settings or TransportSettings()
        self.api_key = api_key.strip()
        self._extra_headers = dict(extra_headers or {})
        self._traits = traits
        self._http: httpx2.AsyncClient | None = None
        self._open_thinking: set[str] = set()  # models that were seen to write only the end of `<think>`
        self.failures = Failures(spec, self.api_base, (self.api_key, *self._extra_headers.values()))

    def traits(self, model: str) -> ModelTraits:
        return self._traits or traits_of(model)

    async def aclose(self) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    def url(self) -> str:
        """Where requests go; an apiBase may end in all or the beginning of `path`."""
        base, question, query = self.api_base.partition("?")
        for end in (self.path, self.path.removesuffix("/messages")):
            base = base.rstrip("/").removesuffix(end)
        return f"{base}{self.path}{question}{query}"

    async def models(self) -> list[str]:
        """The names of its models, as the server lists them. Raises ProviderError."""
        from nanobot.providers.discovery import names_in

        url = self.url().replace(self.path, self.models_path)
        headers = self._checked(await self.credentials())
        with _translated(self.failures):
            async with aclosing(await self._send("GET", url, headers, b"", "its list of models")) as response:
                answer = await response.aread()
        try:
            return names_in(json.loads(answer))
        except (ValueError, LookupError, TypeError, RecursionError):
            raise self.failures.broken("it is no list of models") from None

    @abstractmethod
    async def credentials(self) -> dict[str, str]:
        """Headers, in small letters, that say who asks and in which dialect. Asked for every call."""

    @abstractmethod
    def body(self, request: ModelRequest) -> dict[str, Any]:
        """The JSON body of `request`."""

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Yield chunks and end with a Completion, or raise a ProviderError once retries are used up."""
        body = clean_text(dump_json(self.body(request))).encode()
        headers = self._checked(await self.credentials())
        began = self.settings.clock()
        for attempt in range(self.settings.max_retries + 1):
            shown = False
            try:
                async with aclosing(self._attempt(request, headers, body)) as events:
                    async for event in events:
                        shown = True
                        yield event
                return
            except ProviderError as error:
                late = self.settings.clock() - began > self.settings.patience
                if late or not error.retryable or attempt == self.settings.max_retries:
                    raise
                reason, asked = str(error), error.retry_after
            # Exponential with jitter (half to all of the step), unless the provider asked for a wait.
            step = self.settings.backoff * 2**attempt
            delay = asked if asked is not None else step * (0.5 + self.settings.random.random() / 2)
            yield Retrying(reason, delay, discard=shown)
            await self.settings.sleep(delay)

    async def _attempt(
        self, request: ModelRequest, headers: dict[str, str], body: bytes
    ) -> AsyncGenerator[ModelEvent, None]:
        settings, parser = self.settings, EventParser()
        reader = self.reader_type(self.failures, request, self.name)
        reader.expects_thinking = request.model in self._open_thinking
        limit = settings.first_byte_timeout
        with _translated(self.failures):
            async with (
                aclosing(await self._send("POST", self.url(), headers, body, request.model)) as response,
                aclosing(response.aiter_bytes()) as chunks,
            ):
                # The read after the last event lets the connection be used again.
                while (chunk := await self._next(chunks, limit, reader)) and not reader.done:
                    for data in parser.feed(chunk):
                        for event in reader.feed(data):
                            yield event
                    waits = settings.idle_timeout if reader.blocks else settings.silence_timeout
                    limit = settings.ending_timeout if reader.complete else waits
            for data in parser.close():
                for event in reader.feed(data):
                    yield event
        for event in reader.end():
            yield event
        yield reader.completion()
        if reader.prompt_opens_thinking:
            self._open_thinking.add(request.model)
        else:
            self._open_thinking.discard(request.model)

    async def _send(
        self, method: str, url: str, headers: dict[str, str], body: bytes, model: str
    ) -> httpx2.Response:
        """The response, its body unread. Raises ProviderError if its status is no success."""
        import httpx2

        limit = self.settings.first_byte_timeout
        http = self._client()
        outgoing = http.build_request(method, url, headers=headers, content=body)
        try:
            async with asyncio.timeout(limit):
                response = await http.send(outgoing, stream=True)
        except TimeoutError:
            raise self.failures.unreachable(f"no answer within {limit:g} seconds") from None
        if response.is_success:
            return response
        text = ""
        async with aclosing(response):
            with suppress(TimeoutError, httpx2.HTTPError):  # its status says enough if no more comes
                async with asyncio.timeout(self.settings.ending_timeout):
                    text = (await response.aread())[:_ERROR_BODY_BYTES].decode("utf-8", "replace")
        now = self.settings.clock()
        raise self.failures.of_response(response.status_code, response.headers, text, model=model, now=now)

    async def _next(self, chunks: AsyncGenerator[bytes, None], limit: float, reader: AnswerReader) -> bytes:
        """More of the body, awaited for `limit` seconds; empty at its end."""
        import httpx2

        try:
            async with asyncio.timeout(limit):
                return await anext(chunks, b"")
        except (TimeoutError, httpx2.TransportError) as error:
            if reader.complete:
                return b""
            if isinstance(error, TimeoutError):
                raise self.failures.broken(f"nothing came for {limit:g} seconds") from None
            raise

    def _checked(self, credentials: dict[str, str]) -> dict[str, str]:
        """All headers; `extraHeaders` replace ours of the same name. Raises AuthError for impossible ones."""
        headers = {
            "accept": "text/event-stream",
            "accept-encoding": "identity",
            "content-type": "application/json",
            "user-agent": f"nanobot/{__version__}",
            **credentials,
            **{name.lower(): value for name, value in self._extra_headers.items()},
        }
        for name, value in headers.items():
            # The HTTP library would say so too, quoting the key.
            if not re.fullmatch(r"[!#-'*+.^_`|~0-9a-z-]+", name) or not re.fullmatch(r"[\t -~]*", value):
                raise AuthError(
                    f"The header {name} for {self.spec.title} holds a character that no header may have. "
                    f"Copy providers.{self.name}.apiKey or extraHeaders into config.json again."
                )
        return headers

    def _client(self) -> httpx2.AsyncClient:
        if self._http is None:
            import httpx2

            # Plain HTTP to this machine needs neither trust store nor proxy; https is always verified.
            near = re.match(r"http://(localhost|127\.[\d.]+|\[::1\])(:\d+)?([/?]|$)", self.api_base.lower())
            proxy = None if near else proxy_for(self.url())
            self.failures.proxy = str(proxy or "")
            limits = httpx2.Limits(keepalive_expiry=60.0)  # a tool may well run for a while
            try:
                transport = open_transport(proxy, verify=not near, trust_env=not near, limits=limits)
            except UsageError as error:
                raise self.failures.unreachable(str(error), retryable=False) from None
            timeout = httpx2.Timeout(None, connect=self.settings.connect_timeout)
            self._http = httpx2.AsyncClient(transport=transport, timeout=timeout)
        return self._http


@contextmanager
def _translated(failures: Failures) -> Iterator[None]:
    """Errors of the HTTP library as ours."""
    import ssl

    import httpx2

    try:
        yield
    except httpx2.UnsupportedProtocol as error:
        raise failures.unreachable(str(error), retryable=False) from None
    except httpx2.InvalidURL:  # its text may quote a password
        raise failures.unreachable("this is no valid address", retryable=False) from None
    except (httpx2.ReadError, httpx2.RemoteProtocolError, httpx2.DecodingError) as error:
        raise failures.broken(f"the connection broke ({type(error).__name__})") from None
    except OverflowError:
        raise failures.broken("a part of it is endless") from None
    except httpx2.RequestError as error:
        cause: BaseException | None = error
        while cause and not isinstance(cause, ssl.SSLCertVerificationError):
            cause = cause.__cause__ or cause.__context__
        raise failures.unreachable(str(error) or type(error).__name__, retryable=cause is None) from None
