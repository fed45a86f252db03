"""Search engines for the web_search tool: Brave with a key, `ddgs` without one."""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

from nanobot.config.proxies import open_transport, proxy_for
from nanobot.errors import ToolError, UsageError

DDGS_SECONDS = 8  # for each of the engines that ddgs asks
_KEYLESS = "https://duckduckgo.com"  # stands for those engines


class SearchResult(NamedTuple):
    title: str
    url: str
    snippet: str


async def brave(query: str, count: int, key: str, url: str) -> list[SearchResult]:
    """At most `count` results, best first. Raises ToolError saying what to do.

    Brave Search API: https://api-dashboard.search.brave.com/documentation/services/web-search
    """
    import httpx2

    headers = {"X-Subscription-Token": key, "Accept": "application/json"}
    proxy = proxy_for(url)
    way = f" through the proxy {proxy}" if proxy else ""
    try:
        async with httpx2.AsyncClient(timeout=20, transport=open_transport(proxy)) as client:
            response = await client.get(url, params={"q": query, "count": count}, headers=headers)
    except UnicodeEncodeError as error:
        raise ToolError("Brave Search: the API key has characters that no key has.") from error
    except (httpx2.RequestError, UsageError) as error:
        reason = str(error) or type(error).__name__
        raise ToolError(f"Brave Search cannot be reached{way}: {reason}.") from error
    if response.status_code != 200:
        raise ToolError(_brave_problem(response.status_code, response.text))
    try:
        rows = ((response.json().get("web") or {}).get("results") or [])[:count]
        return [
            SearchResult(str(row.get("title") or ""), str(row["url"]), str(row.get("description") or ""))
            for row in rows
        ]
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


async def ddgs(query: str, count: int) -> list[SearchResult]:
    """As `brave`, without a key: the package `ddgs` asks several public engines."""
    from ddgs import DDGS
    from ddgs.exceptions import DDGSException, RatelimitException

    for noisy in ("ddgs", "primp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    proxy = proxy_for(_KEYLESS)
    engines = DDGS(proxy=proxy.url if proxy else None, timeout=DDGS_SECONDS)
    try:
        async with asyncio.timeout(4 * DDGS_SECONDS):
            rows = await asyncio.to_thread(engines.text, query, max_results=count)
    except RatelimitException as error:
        raise ToolError("The search engines limit the rate. Wait a little, or search less.") from error
    except (DDGSException, TimeoutError) as error:
        # ddgs has one exception for everything; this text is its way to say that nothing was found.
        if str(error) == "No results found.":
            return []
        way = f" through the proxy {proxy}" if proxy else ""
        raise ToolError(
            f"No search engine could be reached{way}. Check the network, "
            "or set tools.web.search.apiKey to a Brave Search key."
        ) from error
    return [
        SearchResult(*(str(row.get(key, "")) for key in ("title", "href", "body"))) for row in rows[:count]
    ]
