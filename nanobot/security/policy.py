"""May a tool call run? The one place that says so: yes, no, or as the owner answers.

A question lives in this process. A call that waited for its answer when nanobot died has no intent recorded,
so its resumed turn asks again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Literal

from nanobot.messages import InboundMessage, ToolCall

Decision = Literal["allow", "ask", "deny"]

_PATIENCE = 600.0  # seconds until no answer is a no
_LETTERS = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"  # none that look alike
_SHOWN = 3_000  # characters of a call that the owner is shown
_REMEMBERED = 100  # answers
_ADVICE = "Do it another way, or tell the owner what you wanted to do."


class Policy:
    """Decides about calls by `rules`: by the name of a tool, or `*` for all others.

    `attended`: somebody at this process's terminal answers. Chats always can.
    """

    def __init__(self, rules: Mapping[str, Decision] | None = None) -> None:
        self.attended = False
        self._rules = rules or {}
        self._asked: dict[str, tuple[str, asyncio.Future[bool]]] = {}  # by code: session and answer
        self._answers: dict[str, bool] = {}

    def rule(self, tool: str) -> Decision:
        """What the owner has decided about a tool."""
        return self._rules.get(tool, self._rules.get("*", "allow"))

    async def refusal(self, inbound: InboundMessage, call: ToolCall, ask: Callable[[str, str], None]) -> str:
        """Why the call may not run in a turn that answers `inbound`; "" if it may.

        `ask` shows the owner the arguments of the call, and the code of the question.
        """
        rule = self.rule(call.name)
        if rule == "allow":
            return ""
        if rule == "deny":
            return f"The owner does not allow {call.name} (tools.policy). {_ADVICE}"
        if inbound.source != "person" or inbound.trust != "owner" or (inbound.owner and not self.attended):
            return f"{call.name} needs the owner's yes (tools.policy), and nobody can give it here. {_ADVICE}"
        code = "".join(secrets.choice(_LETTERS) for _ in range(6))
        answer = asyncio.get_running_loop().create_future()
        self._asked[code] = (inbound.session_key, answer)
        ask(_shown(call.arguments), code)
        try:
            async with asyncio.timeout(_PATIENCE):
                allowed = await answer
        except TimeoutError:
            return f"The owner did not answer whether {call.name} may run. {_ADVICE}"
        finally:
            del self._asked[code]
        return "" if allowed else f"The owner said no to this call of {call.name}. {_ADVICE}"

    def answer(self, session_key: str, code: str, allowed: bool) -> None:
        """Answer the question of that code, if one waits in the session."""
        asked_in, answer = self._asked.get(code, ("", None))
        if answer is not None and asked_in == session_key and not answer.done():
            answer.set_result(allowed)
            self._answers[code] = allowed
            while len(self._answers) > _REMEMBERED:
                del self._answers[next(iter(self._answers))]

    def answered(self, code: str) -> bool | None:
        """What the question of that code was answered; None if it was not."""
        return self._answers.get(code)


def _shown(arguments: Mapping[str, Any]) -> str:
    """The arguments, a line each."""
    text = "\n".join(f"{name}: {value}" for name, value in arguments.items())
    left_out = len(text) - _SHOWN
    return text if left_out <= 0 else f"{text[:_SHOWN]}\n[… {left_out} characters more …]"
