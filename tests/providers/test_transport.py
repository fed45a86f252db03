"""What happens between a request and its answer: retries, timeouts, errors, framing, headers."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

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
from nanobot.messages import Usage
from nanobot.providers.base import Completion, Retrying, TextChunk
from nanobot.providers.chat_completions import ChatCompletionsProvider
from nanobot.providers.registry import ProviderSpec
from tests.providers.calling import WEATHER, Collected, Waits, ask, collect, fast_settings
from tests.providers.loopback import (
    HANG,
    RESET,
    SILENCE,
    Answer,
    Loopback,
    chat_chunk,
    chat_events,
    chat_stream,
    json_answer,
    sse,
)
from tests.providers.wire_rules import check_chat_request

KEY = "sk-test-0123456789abcdef"
SPEC = ProviderSpec(name="acme", keywords=("acme",), env_key="ACME_API_KEY", display_name="Acme")


@pytest.fixture
async def server() -> AsyncIterator[Loopback]:
    async with Loopback() as loopback:
        yield loopback


def provider_at(url: str, waits: Waits | None = None, **changes: Any) -> ChatCompletionsProvider:
    settings = fast_settings(waits or Waits(), **changes)
    return ChatCompletionsProvider(SPEC, api_key=KEY, api_base=f"{url}/v1", settings=settings)


async def answer_of(server: Loopback, waits: Waits | None = None, **changes: Any) -> Collected:
    provider = provider_at(server.url, waits, **changes)
    try:
        return await collect(provider, ask(tools=(WEATHER,)))
    finally:
        await provider.aclose()


async def failure_of(server: Loopback, *answers: Answer, **changes: Any) -> ProviderError:
    """The error the scripted answers lead to, when nothing is retried."""
    server.enqueue(*answers)
    with pytest.raises(ProviderError) as caught:
        await answer_of(server, **{"max_retries": 0, **changes})
    assert KEY not in str(caught.value)
    return caught.value


# --- a good answer -------------------------------------------------------------------------------


async def test_a_plain_answer(server: Loopback) -> None:
    usage = {"prompt_tokens": 12, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 8}}
    server.enqueue(chat_stream("Hello, wörld 🙂", usage=usage))
    answer = await answer_of(server)
    assert answer.shown == answer.completion.message.text == "Hello, wörld 🙂"
    assert answer.completion.finish_reason == "stop"
    assert answer.completion.usage == Usage(12, 3, cached_tokens=8)
    check_chat_request(server.requests[0])


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_chunks_may_be_cut_inside_of_lines_and_characters(server: Loopback, size: int) -> None:
    stream = b"".join(sse(*chat_events("Grüße 🙂 ok", calls=[("c1", "get_weather", '{"city": "Köln 🌧"}')])))
    server.enqueue(Answer([stream[start : start + size] for start in range(0, len(stream), size)]))
    completion = (await answer_of(server)).completion
    assert completion.message.text == "Grüße 🙂 ok"
    assert completion.message.tool_calls[0].arguments == {"city": "Köln 🌧"}


async def test_an_answer_framed_by_the_end_of_the_connection_with_the_wrong_type(server: Loopback) -> None:
    server.enqueue(Answer(sse(*chat_events("fine")), headers={"content-type": "text/plain"}, framing="close"))
    assert (await answer_of(server)).shown == "fine"


async def test_connections_are_used_again(server: Loopback) -> None:
    server.enqueue(chat_stream("one"), chat_stream("two"))
    provider = provider_at(server.url)
    for text in ("one", "two"):
        assert (await collect(provider, ask())).shown == text
    await provider.aclose()
    assert server.connections == 1


async def test_a_stream_without_done_is_whole_when_it_has_a_finish_reason(server: Loopback) -> None:
    for ending in ([], [HANG], [RESET]):
        server.enqueue(Answer([*sse(*chat_events("whole")[:-1]), *ending]))
        assert (await answer_of(server, ending_timeout=0.05)).shown == "whole"


async def test_a_server_that_stays_connected_after_done_is_not_waited_for(server: Loopback) -> None:
    server.enqueue(Answer([*sse(*chat_events("done")), HANG]))
    assert (await answer_of(server, ending_timeout=0.01)).shown == "done"


async def test_what_comes_after_done_is_ignored(server: Loopback) -> None:
    late = sse({"error": {"message": "too late"}}, "no json")
    whole = sse(*chat_events("done"))
    for pieces in ([*whole, *late], [b"".join([*whole, *late])]):
        server.enqueue(Answer(pieces))
        assert (await answer_of(server)).shown == "done"


async def test_a_last_event_without_its_empty_line(server: Loopback) -> None:
    stream = b"".join(sse(*chat_events("whole")[:-1])).removesuffix(b"\n")
    server.enqueue(Answer([stream], framing="close"))
    assert (await answer_of(server)).shown == "whole"


async def test_a_server_that_ignores_stream_answers_with_one_json_object(server: Loopback) -> None:
    function = {"name": "get_weather", "arguments": '{"city": "Oslo"}'}
    message = {
        "role": "assistant",
        "content": "Looking.",
        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
    }
    body = {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2},
    }
    server.enqueue(json_answer(body))
    completion = (await answer_of(server)).completion
    assert completion.message.text == "Looking."
    assert completion.message.tool_calls[0].arguments == {"city": "Oslo"}
    assert completion.usage == Usage(5, 2)


# --- retries -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
async def test_these_statuses_are_tried_again(server: Loopback, status: int) -> None:
    server.enqueue(json_answer({"error": {"message": "later"}}, status), chat_stream("ok"))
    answer = await answer_of(server, waits := Waits())
    assert answer.shown == "ok"
    assert answer.retries == [Retrying(answer.retries[0].reason, 1.0, discard=False)]
    assert waits.seconds == [1.0]
    assert server.requests[0].body == server.requests[1].body


@pytest.mark.parametrize("status", [301, 400, 401, 402, 403, 404, 413, 418, 422])
async def test_these_statuses_are_final(server: Loopback, status: int) -> None:
    error = await failure_of(server, json_answer({"error": {"message": "no"}}, status), max_retries=3)
    assert error.status == status
    assert len(server.requests) == 1


async def test_waits_double_and_end_after_three_retries(server: Loopback) -> None:
    server.enqueue(*[json_answer({}, 500)] * 4)
    waits = Waits()
    with pytest.raises(OverloadedError, match=r"Acme is failing or overloaded \(500, test-model\)"):
        await answer_of(server, waits)
    assert waits.seconds == [1.0, 2.0, 4.0]


async def test_text_of_a_broken_attempt_is_discarded(server: Loopback) -> None:
    broken = Answer([*sse(chat_chunk({"content": "half an ans"})), RESET])
    server.enqueue(broken, chat_stream("the answer"))
    answer = await answer_of(server)
    kinds = [type(event) for event in answer.events]
    assert kinds == [TextChunk, Retrying, TextChunk, TextChunk, Completion]
    assert answer.retries[0].discard is True
    assert answer.shown == answer.completion.message.text == "the answer"


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"Retry-After-Ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:40 GMT"}, 20.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, 1.0),
        ({"retry-after": "nan"}, 1.0),
    ],
)
async def test_the_wait_a_provider_asks_for(
    server: Loopback, headers: Mapping[str, str], wait: float
) -> None:
    server.enqueue(json_answer({}, 429, headers), chat_stream("ok"))
    await answer_of(server, waits := Waits())
    assert waits.seconds == [wait]


async def test_geminis_retry_delay_in_the_body(server: Loopback) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}]
    body = [{"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED", "details": details}}]
    server.enqueue(json_answer(body, 429), chat_stream("ok"))
    await answer_of(server, waits := Waits())
    assert waits.seconds == [34.0]


async def test_a_wait_beyond_a_minute_fails_and_says_when(server: Loopback) -> None:
    error = await failure_of(server, json_answer({}, 429, {"retry-after": "720"}), max_retries=3)
    assert isinstance(error, RateLimitError)
    assert error.retry_after == 720
    assert "Try again in 12 minutes or use another model" in str(error)


async def test_an_empty_account_is_not_tried_again_whatever_the_headers_say(server: Loopback) -> None:
    body = {"error": {"code": "insufficient_quota", "message": "x"}}
    answer = json_answer(body, 429, {"retry-after": "1", "x-should-retry": "true"})
    assert isinstance(await failure_of(server, answer, max_retries=3), QuotaError)


@pytest.mark.parametrize("asked", ["1e300", "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_an_absurd_wait(server: Loopback, asked: str) -> None:
    error = await failure_of(server, json_answer({}, 503, {"retry-after": asked}), max_retries=3)
    assert "Try again in 43200 minutes" in str(error)


async def test_x_should_retry_overrides_the_status(server: Loopback) -> None:
    error = await failure_of(server, json_answer({}, 503, {"x-should-retry": "false"}), max_retries=3)
    assert isinstance(error, OverloadedError)
    server.enqueue(json_answer({}, 400, {"x-should-retry": "true"}), chat_stream("ok"))
    assert (await answer_of(server)).shown == "ok"


async def test_words_never_decide_about_a_retry(server: Loopback) -> None:
    body = {"error": {"message": "429 rate limit, please retry, overloaded, timeout"}}
    error = await failure_of(server, json_answer(body, 400), max_retries=3)
    assert isinstance(error, BadRequestError)


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, {"error": {"message": f"bad key {KEY}"}}, AuthError, "providers.acme.apiKey in config.json"),
        (403, {"error": {"message": f"{KEY} may not"}}, AuthError, "may not"),
        (402, {"error": {"message": "Insufficient Balance"}}, QuotaError, "no credit is left"),
        (429, {"error": {"code": "insufficient_quota", "message": "x"}}, QuotaError, "no credit is left"),
        (429, {"error": {"code": "1113", "message": "x"}}, QuotaError, "no credit is left"),
        (400, {"error": {"message": "Your credit balance is too low"}}, QuotaError, "no credit is left"),
        (429, {"error": {"message": "slow down"}}, RateLimitError, "slow down"),
        (
            404,
            {"error": {"message": "no such"}},
            BadRequestError,
            "does not know the model (404, test-model)",
        ),
        (400, {"error": {"code": "context_length_exceeded"}}, ContextTooLongError, "/new"),
        (400, {"error": "prompt is too long: 210000 tokens > 200000"}, ContextTooLongError, "/new"),
        (400, {"detail": "maximum context length is 4096 tokens"}, ContextTooLongError, "/new"),
        (413, {}, ContextTooLongError, "/new"),
        *(
            (400, {"error": {"message": said}}, ContextTooLongError, said[:20])
            for said in (
                "invalid params, context window exceeds limit (2013)",
                "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
                "Request payload size exceeds the limit: 20971520 bytes.",
                "Invalid request: Your request exceeded model token limit: 8192",
                "Prompt 超长",
                "Range of input length should be [1, 30720]",
                "input length exceeds maximum context length",
                "the request exceeds the available context size, try increasing it",
                "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
                "Trying to keep the first 5000 tokens, however the context length is only 4096 tokens",
                "Please reduce the length of the messages or completion.",
                "length of prompt_tokens (9000) must be less than max_seq_len (8192).",
                "Total tokens of image and text exceed max message tokens",
                "prompt token count of 130000 exceeds the limit of 128000",
                "input length and `max_tokens` exceed context limit: 198000 + 8192 > 200000",
                "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
            )
        ),
        (400, {"error": {"code": "1261", "message": "x"}}, ContextTooLongError, "/new"),
        (400, {"error": {"message": "max_tokens must be at most 8192"}}, BadRequestError, "max_tokens"),
        (400, {"error": {"message": "Unknown parameter: 'x'."}}, BadRequestError, "Unknown parameter: 'x'"),
        (422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, BadRequestError, "field required"),
        (308, {}, BadRequestError, "redirects"),
        (
            529,
            {"error": {"type": "overloaded_error", "message": "Overloaded"}},
            OverloadedError,
            "Overloaded",
        ),
    ],
)
async def test_errors_say_what_to_do(
    server: Loopback, status: int, body: Any, kind: type[ProviderError], words: str
) -> None:
    error = await failure_of(server, json_answer(body, status))
    assert type(error) is kind
    assert words in str(error)
    assert "Acme" in str(error)
    assert error.status == status


async def test_an_html_error_page_is_reduced_to_its_words(server: Loopback) -> None:
    page = b"<html><style>p{}</style><title>502</title><p>Bad\x1b[31m Gateway</p></html>"
    error = await failure_of(server, Answer([page], 502, {"content-type": "text/html"}))
    assert (
        str(error)
        == "Acme is failing or overloaded (502, test-model): 502 Bad [31m Gateway. Try again in a moment."
    )


async def test_an_error_body_nobody_can_parse(server: Loopback) -> None:
    assert isinstance(await failure_of(server, json_answer("x", 400)), BadRequestError)
    assert isinstance(await failure_of(server, Answer([b"[" * 60_000], 400)), BadRequestError)


async def test_long_error_texts_are_cut(server: Loopback) -> None:
    error = await failure_of(server, json_answer({"error": {"message": "x" * 10_000}}, 400))
    assert len(str(error)) < 500


async def test_a_refusal_whose_body_never_ends(server: Loopback) -> None:
    error = await failure_of(server, Answer([b'{"error', HANG], 401), ending_timeout=0.05)
    assert isinstance(error, AuthError)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"error": {"code": 502, "message": "provider went away"}}, OverloadedError),
        ({"error": {"type": "server_error", "message": "x"}}, OverloadedError),
        ({"error": {"code": 429, "message": "x"}}, RateLimitError),
        ({"error": {"code": "insufficient_quota", "message": "x"}}, QuotaError),
        ({"error": {"message": "who knows"}}, OverloadedError),
        ({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, QuotaError),
        ({"object": "error", "message": "bad", "code": 400}, BadRequestError),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
async def test_errors_inside_of_a_200(
    server: Loopback, event: Any, kind: type[ProviderError], whole: bool
) -> None:
    answer = json_answer(event) if whole else Answer(sse(chat_chunk({"content": "so"}), event))
    assert type(await failure_of(server, answer)) is kind


# --- streams that break --------------------------------------------------------------------------

TOOL_HEAD = chat_chunk(
    {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "get_weather", "arguments": ""}}]}
)


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param(sse(chat_chunk({"content": "Hel"})), id="truncated"),
        pytest.param([*sse(chat_chunk({"content": "Hel"})), RESET], id="reset"),
        pytest.param(sse("[DONE]"), id="nothing but done"),
        pytest.param(sse(TOOL_HEAD), id="cut after the tool name"),
        pytest.param(sse(TOOL_HEAD, "[DONE]"), id="cut after the tool name, with done"),
        pytest.param(sse(chat_chunk({"content": "x"}), "{not json"), id="malformed chunk"),
        pytest.param(sse("[1, 2]"), id="no object"),
        pytest.param(sse({"choices": [{"index": 0, "delta": {"tool_calls": "no"}}]}), id="odd shape"),
        pytest.param([b"<html>Sign in to the hotel WiFi</html>"], id="no event stream"),
        pytest.param([], id="empty body"),
        pytest.param([b'{"choices": [{"mess'], id="cut-off JSON"),
        pytest.param([b'{"ok": true}'], id="unknown JSON"),
        pytest.param([b"[" * 100_000], id="deep JSON"),
        pytest.param(sse("[" * 100_000), id="deep event"),
        pytest.param([b"data: {}\n", b": ping\n\n"], id="only empty chunks"),
        pytest.param(sse(chat_chunk(finish="tool_calls")), id="announced calls are missing"),
        pytest.param(
            sse(
                chat_chunk({"tool_calls": [{"index": 0, "id": "c1", "function": {"arguments": "{}"}}]}),
                chat_chunk(finish="tool_calls"),
            ),
            id="call without a name",
        ),
        pytest.param(sse(TOOL_HEAD, chat_chunk(finish="weird")), id="calls with an unknown finish reason"),
    ],
)
async def test_a_broken_stream_is_an_error_and_is_tried_again(server: Loopback, pieces: list[Any]) -> None:
    error = await failure_of(server, Answer(pieces))
    assert type(error) is BrokenStreamError
    server.enqueue(Answer(pieces), chat_stream("recovered"))
    answer = await answer_of(server)
    assert answer.shown == "recovered"
    assert answer.completion.message.tool_calls == ()


async def test_the_excerpt_of_a_page_that_is_no_stream(server: Loopback) -> None:
    page = f"<html><h1>Sign in</h1> your key {KEY}</html>".encode()
    error = await failure_of(server, Answer([page], headers={"content-type": "text/html"}))
    assert "a part of it is not JSON ('Sign in your key ***')" in str(error)


async def test_a_stream_that_stalls(server: Loopback) -> None:
    stalled = Answer([*sse(chat_chunk({"content": "Hel"})), HANG])
    error = await failure_of(server, stalled, idle_timeout=0.05)
    assert type(error) is BrokenStreamError
    assert "nothing came for 0.05 seconds" in str(error)


async def test_what_failed_after_a_long_time_is_not_tried_again(server: Loopback) -> None:
    error = await failure_of(server, json_answer({}, 500), max_retries=3, patience=-1.0)
    assert type(error) is OverloadedError


@pytest.mark.parametrize("pieces", [[SILENCE], [HANG]])
async def test_no_first_byte(server: Loopback, pieces: list[Any]) -> None:
    error = await failure_of(server, Answer(pieces), first_byte_timeout=0.05)
    assert isinstance(error, UnreachableError | BrokenStreamError)
    assert "0.05 seconds" in str(error)


async def test_keep_alive_comments_keep_a_slow_answer_alive(server: Loopback) -> None:
    server.enqueue(Answer([b": OPENROUTER PROCESSING\n\n"] * 5 + sse(*chat_events("slow"))))
    assert (await answer_of(server)).shown == "slow"


async def test_nothing_listens() -> None:
    async with Loopback() as server:
        url = server.url
    waits = Waits()
    provider = provider_at(url, waits)
    with pytest.raises(UnreachableError, match=r"Cannot reach Acme at http://127.*providers\.acme\.apiBase"):
        await collect(provider, ask())
    await provider.aclose()
    assert len(waits.seconds) == 3


async def test_a_caller_that_leaves_closes_the_connection(server: Loopback) -> None:
    server.enqueue(Answer([*sse(chat_chunk({"content": "Hel"})), HANG]), chat_stream("next"))
    provider = provider_at(server.url)
    stream = provider.stream(ask())
    assert await anext(stream) == TextChunk("Hel")
    await stream.aclose()  # type: ignore[attr-defined]
    assert (await collect(provider, ask())).shown == "next"
    await provider.aclose()


async def test_cancelling_the_caller_ends_the_call(server: Loopback) -> None:
    server.enqueue(Answer([*sse(chat_chunk({"content": "Hel"})), HANG]))
    provider = provider_at(server.url)
    started = asyncio.Event()

    async def consume() -> None:
        async for _ in provider.stream(ask()):
            started.set()

    task = asyncio.create_task(consume())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await provider.aclose()


async def test_https_is_verified_even_on_loopback_and_a_bad_certificate_is_final() -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(Path(__file__).with_name("self_signed.pem"))
    waits = Waits()
    async with Loopback(tls=tls) as server:
        provider = provider_at(server.url, waits)
        with pytest.raises(UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            await collect(provider, ask())
        await provider.aclose()
    assert server.requests == []
    assert waits.seconds == []


async def test_a_proxy_of_the_environment_is_not_used_for_loopback(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server.enqueue(chat_stream("direct"))
    assert (await answer_of(server)).shown == "direct"


async def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:9")
    with pytest.raises(UnreachableError, match="proxy that the environment names") as caught:
        await collect(provider_at("https://provider.invalid"), ask())
    assert caught.value.retryable is False


# --- headers and addresses -----------------------------------------------------------------------


async def test_headers(server: Loopback) -> None:
    server.enqueue(chat_stream("ok"), chat_stream("ok"))
    await answer_of(server)
    headers = server.requests[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["user-agent"].startswith("nanobot/")
    extra = {"X-Team": "blue", "User-Agent": "mine/1", "Authorization": "Basic abc"}
    provider = ChatCompletionsProvider(SPEC, api_key=KEY, api_base=f"{server.url}/v1", extra_headers=extra)
    await collect(provider, ask())
    await provider.aclose()
    headers = server.requests[1].headers
    assert (headers["x-team"], headers["user-agent"], headers["authorization"]) == (
        "blue",
        "mine/1",
        "Basic abc",
    )


@pytest.mark.parametrize("key", ["sk-evil\r\nX-Injected: 1", "sk-ümlaut-key", "sk\x00null-key"])
async def test_a_key_no_header_can_carry_is_named_but_not_shown(key: str) -> None:
    provider = ChatCompletionsProvider(SPEC, api_key=key, api_base="http://127.0.0.1:9/v1")
    with pytest.raises(AuthError, match=r"providers\.acme\.apiKey") as caught:
        await collect(provider, ask())
    assert key not in str(caught.value)


async def test_no_key_no_authorization(server: Loopback) -> None:
    server.enqueue(chat_stream("ok"), json_answer({}, 401))
    provider = ChatCompletionsProvider(SPEC, api_base=f"{server.url}/v1")
    await collect(provider, ask())
    with pytest.raises(AuthError, match=r"Acme wants a valid key \(401, test-model\)"):
        await collect(provider, ask())
    await provider.aclose()
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("base", ["", "ftp://example.test/v1", "example.test/v1", "http://host:port/v1"])
async def test_an_address_that_makes_no_sense(base: str) -> None:
    provider = ChatCompletionsProvider(SPEC, api_key=KEY, api_base=base)
    with pytest.raises(ProviderError, match=r"providers\.acme\.apiBase") as caught:
        await collect(provider, ask())
    assert caught.value.retryable is False
    await provider.aclose()


async def test_credentials_in_the_address_stay_out_of_errors() -> None:
    async with Loopback() as server:
        url = server.url
    base = url.replace("http://", "http://user:hunter22@") + "/v1?api-key=topsecret"
    provider = ChatCompletionsProvider(SPEC, api_base=base, settings=fast_settings(Waits(), max_retries=0))
    with pytest.raises(UnreachableError) as caught:
        await collect(provider, ask())
    await provider.aclose()
    assert "hunter22" not in str(caught.value)
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://a.test/v1", "https://a.test/v1/chat/completions"),
        ("https://a.test/v1/", "https://a.test/v1/chat/completions"),
        ("https://a.test/v1/chat/completions", "https://a.test/v1/chat/completions"),
        ("https://a.test/openai?api-version=1", "https://a.test/openai/chat/completions?api-version=1"),
    ],
)
def test_where_requests_go(base: str, url: str) -> None:
    assert ChatCompletionsProvider(SPEC, api_base=base).url() == url


async def test_lone_surrogates_are_repaired_on_the_way_out(server: Loopback) -> None:
    server.enqueue(chat_stream("ok"))
    provider = provider_at(server.url)
    await collect(provider, ask("pair \ud83d\ude42 lone \ud800 end"))
    await provider.aclose()
    content = json.loads(server.requests[0].body)["messages"][-1]["content"]
    assert content == "pair 🙂 lone \ufffd end"
