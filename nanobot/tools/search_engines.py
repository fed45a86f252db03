"""Search engines for the web_search tool: Brave with a key, `ddgs` without one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nanobot.config.proxies import open_transport, proxy_for
from nanobot.errors import ToolError, UsageError

_KEYLESS = "https://duckduckgo.com"  # stands for the engines that ddgs asks
BRAVE_URL = "https://api.search.brave.com/res/v1/web/search"


@dataclass(frozen=True, slots=True)
class SearchResult:
    title: str
    url: str
    snippet: str


class SearchEngine(Protocol):
    async def search(self, query: str, count: int) -> Sequence[SearchResult]:
        """At most `count` results, best first. Raises ToolError saying what to do."""
        ...


def engine_for(key: str, brave_url: str = "") -> SearchEngine:
    """Brave when there is a key, otherwise ddgs."""
    return BraveSearch(key, brave_url or BRAVE_URL) if key else DdgsSearch()


class BraveSearch:
    """Brave Search API: https://api-dashboard.search.brave.com/documentation/services/web-search"""

    def __init__(self, api_key: str, url: str) -> None:
        self._api_key = api_key
        self._url = url

    async def search(self, query: str, count: int) -> Sequence[SearchResult]:
        import httpx2

        headers = {"X-Subscription-Token": self._api_key, "Accept": "application/json"}
        proxy = proxy_for(self._url)
        try:
            async with httpx2.AsyncClient(timeout=20, transport=open_transport(proxy)) as client:
                response = await client.get(self._url, params={"q": query, "count": count}, headers=headers)
        except UsageError as error:
            raise ToolError(f"Brave Search cannot be reached: {error}.") from error
        except (httpx2.RequestError, UnicodeEncodeError) as error:
            reason = (
                "the API key has characters no key has" if isinstance(error, UnicodeError) else str(error)
            )
            way = f" through the proxy {proxy}" if proxy else ""
            raise ToolError(
                f"Brave Search cannot be reached{way}: {reason or type(error).__name__}."
            ) from error
        if response.status_code != 200:
            raise ToolError(_brave_problem(response.status_code, response.text))
        try:
            return _brave_results(response.json())[:count]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ToolError("Brave Search sent an answer that makes no sense. Try again later.") from error


def _brave_problem(status: int, body: str) -> str:
    # Brave answers 422 with this code, not 401, when the token is unknown.
    if status in (401, 403) or (status == 422 and "SUBSCRIPTION_TOKEN" in body):
        return (
            f"Brave Search refused the API key (HTTP {status}). "
            "The owner must correct tools.web.search.apiKey or BRAVE_API_KEY."
        )
    if status == 429:
        return "Brave Search is rate limited (HTTP 429). Wait a little, or search less."
    if status == 422:
        return "Brave Search refused the query (HTTP 422). Use at most 400 characters and 50 words."
    return f"Brave Search failed (HTTP {status}). Try again later."


def _brave_results(answer: Any) -> list[SearchResult]:
    web = answer.get("web") or {}
    return [
        SearchResult(str(row.get("title") or ""), str(row["url"]), str(row.get("description") or ""))
        for row in web.get("results") or []
    ]


class DdgsSearch:
    """Search without a key through the `ddgs` package, which asks several public engines.

    `timeout` is per engine, in seconds. `proxy` as ddgs takes it.
    """

    def __init__(self, *, timeout: int = 8, proxy: str | None = None) -> None:
        self._timeout = timeout
        self._proxy = proxy

    async def search(self, query: str, count: int) -> Sequence[SearchResult]:
        from ddgs.exceptions import DDGSException, RatelimitException

        try:
            async with asyncio.timeout(self._timeout * 4):
                return await asyncio.to_thread(self._ask, query, count)
        except RatelimitException as error:
            raise ToolError("The search engines limit the rate. Wait a little, or search less.") from error
        except (DDGSException, TimeoutError) as error:
            # ddgs has one exception for everything; this text is its way to say that nothing was found.
            if str(error) == "No results found.":
                return []
            proxy = proxy_for(_KEYLESS)
            way = f" through the proxy {proxy}" if proxy else ""
            raise ToolError(
                f"No search engine could be reached{way}. Check the network, "
                "or set tools.web.search.apiKey to a Brave Search key."
            ) from error

    def _ask(self, query: str, count: int) -> Sequence[SearchResult]:
        from ddgs import DDGS

        for noisy in ("ddgs", "primp"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        named = proxy_for(_KEYLESS)
        proxy = self._proxy or (named.url if named else None)
        rows = DDGS(proxy=proxy, timeout=self._timeout).text(query, max_results=count)
        return [
            SearchResult(str(row.get("title", "")), str(row.get("href", "")), str(row.get("body", "")))
            for row in rows[:count]
        ]
