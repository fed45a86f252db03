"""The reading side of a wire protocol: stream events in, chunks and a completion out."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nanobot.providers.base import Completion, ModelEvent, ModelRequest
from nanobot.providers.conversation import dump_json
from nanobot.providers.failures import Failures, read_complaint


class AnswerReader(ABC):
    """Turns the events of one answer into chunks and, at its end, a Completion. Does no I/O."""

    settled = False
    """The model has finished; a connection that breaks now takes nothing away."""
    done = False
    """The stream has ended properly."""

    def __init__(self, failures: Failures, request: ModelRequest) -> None:
        self.failures = failures
        self.request = request

    @abstractmethod
    def feed(self, event: Mapping[str, Any]) -> Iterator[ModelEvent]:
        """Take one stream event. Raises ProviderError."""

    @abstractmethod
    def feed_whole(self, body: Mapping[str, Any]) -> Iterator[ModelEvent]:
        """Take an answer that came as one JSON object from a server that ignores `stream`."""

    @abstractmethod
    def completion(self) -> Completion:
        """The finished answer. Raises BrokenStreamError when the stream ended too early."""

    def feed_text(self, data: str) -> Iterator[ModelEvent]:
        """Take the data of one server-sent event. Raises ProviderError."""
        if self.done:
            return
        if data.strip() == "[DONE]":
            self.done = True
            return
        event = self.parse(data)
        self.check_error(event)
        yield from self._feed_checked(self.feed, event)

    def feed_body(self, text: str) -> Iterator[ModelEvent]:
        """Take a whole JSON body. Raises ProviderError."""
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            raise self.failures.broken("it is cut-off JSON", text) from None
        complaint = read_complaint(body)
        if complaint:
            raise self.failures.of_event(complaint, self.request.model)
        if not isinstance(body, dict):
            raise self.failures.broken("it is no event stream", text)
        yield from self._feed_checked(self.feed_whole, body)

    def _feed_checked(
        self, feed: Callable[[Mapping[str, Any]], Iterator[ModelEvent]], event: Mapping[str, Any]
    ) -> Iterator[ModelEvent]:
        """Wire data is read without looking at every type first; what does not fit surfaces here."""
        try:
            yield from feed(event)
        except (AttributeError, KeyError, TypeError) as error:
            raise self.failures.broken("a part of it has an unknown shape", dump_json(event)) from error

    def parse(self, data: str) -> dict[str, Any]:
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            raise self.failures.broken("a part of it is not JSON", data) from None
        if not isinstance(event, dict):
            raise self.failures.broken("a part of it is no object", data)
        return event

    def check_error(self, event: Mapping[str, Any]) -> None:
        if event.get("error") or event.get("object") == "error" or event.get("base_resp"):
            complaint = read_complaint(event)
            if complaint:
                raise self.failures.of_event(complaint, self.request.model)
