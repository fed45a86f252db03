"""What a turn emits: a closed union of events, each one JSON object with a `type`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal, NamedTuple

from nanobot.errors import NanobotError
from nanobot.messages import NOT_COUNTED, ContextUse, Message, Outcome, StopReason, Usage


class TurnStarted(NamedTuple):
    turn_id: str
    session: str
    model: str
    type: Literal["turn_started"] = "turn_started"


class TextDelta(NamedTuple):
    text: str
    type: Literal["text_delta"] = "text_delta"


class ReasoningDelta(NamedTuple):
    text: str
    type: Literal["reasoning_delta"] = "reasoning_delta"


class TextDiscarded(NamedTuple):
    """The model call broke after text was shown and is tried again: drop the deltas of this step."""

    reason: str
    type: Literal["text_discarded"] = "text_discarded"


class ToolStarted(NamedTuple):
    """`hint` is a one-line preview of the call, for example `web_search("query")`."""

    call_id: str
    name: str
    hint: str
    type: Literal["tool_started"] = "tool_started"


class ToolOutputDelta(NamedTuple):
    """Live output of a running tool."""

    call_id: str
    text: str
    type: Literal["tool_output"] = "tool_output"


class ToolFinished(NamedTuple):
    """`seconds` is wall time; `preview` the first line of the result; `exit_code` that of a command; `diff`
    what an edit has changed, for people."""

    call_id: str
    name: str
    outcome: Outcome
    seconds: float
    preview: str
    exit_code: int | None = None
    diff: str = ""
    type: Literal["tool_finished"] = "tool_finished"


class ApprovalAsked(NamedTuple):
    """A tool call waits for the owner's yes or no. `arguments`: a line each; `code` names the question."""

    call_id: str
    name: str
    arguments: str
    code: str
    type: Literal["approval_asked"] = "approval_asked"


class UsageReported(NamedTuple):
    """Tokens of one model call."""

    usage: Usage
    type: Literal["usage"] = "usage"


class Notice(NamedTuple):
    """Something the owner should know that is not part of the answer (a retry, no tools, a limit).

    `attempt`: it tells of a model call that is tried for this time, in place of what was said of the one
    before.
    """

    text: str
    attempt: int = 0
    type: Literal["notice"] = "notice"


class TurnFinished(NamedTuple):
    """Always the last event; `error` and `error_type` are set when it failed. Not in JSON: `said`, which
    whoever closes the turn stores with that."""

    stop_reason: StopReason
    text: str
    usage: Usage
    error: str = ""
    error_type: str = ""
    context: ContextUse = NOT_COUNTED
    said: Message | None = None
    type: Literal["turn_finished"] = "turn_finished"


class SubagentChanged(NamedTuple):
    """How a subagent goes, told to the session that asked. `state` is as in `SubagentInfo`, `tool` what it
    runs, `text` what it reports when it has ended: its result, or why there is none."""

    id: str
    label: str
    profile: str
    state: str
    tool: str = ""
    seconds: float = 0.0
    calls: int = 0
    usage: Usage = Usage()
    text: str = ""
    type: Literal["subagent"] = "subagent"


_OfModel = TurnStarted | TextDelta | ReasoningDelta | TextDiscarded | UsageReported
TurnEvent = _OfModel | ToolStarted | ApprovalAsked | ToolOutputDelta | ToolFinished | Notice | TurnFinished
Event = TurnEvent | SubagentChanged


def failed(error: NanobotError) -> TurnFinished:
    """The end of a turn that could not even begin."""
    return TurnFinished("error", "", Usage(), error=str(error), error_type=type(error).__name__)


def event_to_json(event: Event) -> dict[str, Any]:
    """The event as a JSON-ready dict, `type` first."""
    body = event._asdict()
    body.pop("said", None)
    if "usage" in body:
        body["usage"] = asdict(body["usage"])
    if "context" in body:
        body["context"] = body["context"]._asdict()
    return {"type": body.pop("type"), **body}
