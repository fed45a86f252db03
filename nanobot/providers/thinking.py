"""Thinking that a model writes into its answer, told apart from the words that are meant for people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from nanobot.providers.base import ReasoningChunk, TextChunk

# DeepSeek, Qwen, MiniMax and most others; Magistral; Kimi-VL. With them the fences of code.
_NAME = "(?:[a-z]{1,12}:)?(?:think|thinking|thoughts?|reasoning|antthinking)"
_MARK = re.compile(rf"</?(?i:{_NAME})>|\[/?THINK\]|◁/?think▷|`{{3,}}|~{{3,}}")
_UNFINISHED = re.compile(r"(?:[<\[◁][^<>\[\]◁▷\s]{0,26}|(?<!`)`{1,27}|(?<!~)~{1,27})\Z")
_LONGEST_MARK = 28  # characters
_LONGEST_SPACE = 1_000  # characters before an answer
_QUOTES = "\"'`“‘«([{*"
_IN_SENTENCE = " \t.,;:!?)"


class ThinkingSplitter:
    """Sorts the pieces of one text.

    Thinking comes before the answer: between tags, or up to a closing tag when the prompt has opened it.
    In the second case what was given as text is taken back, unless it was `expected`: then nothing is given
    before the tag, or the end. A tag in code or in a sentence is text.
    """

    def __init__(self, *, expected: bool = False) -> None:
        self.was_opened_by_prompt = False
        self._state: Literal["start", "thinking", "text"] = "thinking" if expected else "start"
        self._kept: list[str] | None = [] if expected else None  # thinking, if a closing tag comes
        self._held = ""  # may become a tag
        self._last = ""  # the last character given as text
        self._has_thought = self._is_code = self._has_opening = False

    def feed(self, piece: str, *, final: bool = False) -> Iterator[TextChunk | ReasoningChunk]:
        """What `piece` brings to light. With `final` nothing is held back any more."""
        text, self._held = self._held + piece, ""
        if not final and (tail := _UNFINISHED.search(text[-_LONGEST_MARK:])):
            text, self._held = text[: -len(tail[0])], tail[0]
        begin = 0
        for mark in _MARK.finditer(text):
            start, end, is_fence, is_closing = *mark.span(), mark[0][0] in "`~", "/" in mark[0]
            if self._state == "thinking":
                if is_closing:
                    yield ReasoningChunk("".join(self._kept or ()) + text[begin:start])
                    self.was_opened_by_prompt, self._kept = self._kept is not None, None
                    self._state, begin, self._has_thought = "start", end, True
            elif self._state == "start" and not is_fence and not text[begin:start].strip():
                self._state, begin = "start" if is_closing else "thinking", end
                self._has_thought = True
            elif is_fence:
                self._state, self._is_code = "text", not self._is_code
            elif not is_closing:
                self._state, self._has_opening = "text", self._has_opening or not self._is_code
            elif not self._is_code and not self._has_opening:
                after = text[end : end + 1] or self._held[:1]
                if not after and not final:  # what follows decides
                    text, self._held = text[:start], mark[0]
                    break
                if _stands_alone(text[start - 1] if start > begin else self._last, after):
                    yield ReasoningChunk(text[begin:start], was_text=bool(self._last))
                    self._state, begin, self._last, self._has_thought = "start", end, "", True
                    self.was_opened_by_prompt = True
        yield from self._rest(text[begin:], final)

    def _rest(self, text: str, final: bool) -> Iterator[TextChunk | ReasoningChunk]:
        """What stands behind the last tag."""
        if self._state == "thinking":
            if self._kept is not None:
                self._kept.append(text)
                if final:
                    self._state = "text"
                    yield TextChunk("".join(self._kept))
            elif text:
                yield ReasoningChunk(text)
            return
        if self._state == "start" and not text.strip() and not final and len(text) < _LONGEST_SPACE:
            self._held = text + self._held
            return
        if self._has_thought and not self._last:
            text = text.lstrip()
        if text:
            self._state, self._last = "text", text[-1]
            yield TextChunk(text)


def _stands_alone(before: str, after: str) -> bool:
    """Whether a closing tag between these characters ends a thought, and is not spoken of."""
    return before not in _QUOTES and not (before in " \t" and after != "" and after in _IN_SENTENCE)
