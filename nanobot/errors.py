"""Every error nanobot raises on purpose, in one tree.

Every message is one or two sentences for the person reading it: what happened, and what to do.
"""


class NanobotError(Exception):
    """Base of all expected errors. `str(error)` is fit to be shown to the owner."""


class ConfigError(NanobotError):
    """The configuration cannot be used."""


class StorageError(NanobotError):
    """Disk, database or file trouble."""


class HomeUnusable(StorageError):
    """The home or its database is damaged, too new or not writable: trying again is no use."""


class TurnTakenOver(StorageError):
    """The claim on a turn is no longer valid: another worker continues it."""


class SandboxMissing(NanobotError):
    """Programs cannot be confined as the configuration asks."""


class UsageError(NanobotError):
    """The request itself makes no sense (unknown session, unknown command, bad flag)."""


class ProviderError(NanobotError):
    """A model call failed.

    `status` is the HTTP status when there was one. `retryable` says whether the transport
    may try again; `retry_after` is the wait the provider asked for, in seconds. `what` is the
    message without `advice`, its end.
    """

    retryable = False

    def __init__(
        self, message: str, *, advice: str = "", status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(f"{message} {advice}".rstrip())
        self.what = message
        self.status = status
        self.retry_after = retry_after


class AuthError(ProviderError):
    """The key or login is missing, wrong or expired."""


class QuotaError(ProviderError):
    """The account has no credit left."""


class RateLimitError(ProviderError):
    """Too many requests."""

    retryable = True


class OverloadedError(ProviderError):
    """The provider is failing or overloaded (5xx, 529)."""

    retryable = True


class ContextTooLongError(ProviderError):
    """The request does not fit into the model's context window."""


class BadRequestError(ProviderError):
    """The provider refused the request (unknown model, unsupported parameter, refused content)."""


class UnreachableError(ProviderError):
    """No connection, or no answer within the timeout."""

    retryable = True


class BrokenStreamError(ProviderError):
    """The stream ended without its terminator, stalled, or carried something unreadable."""

    retryable = True


class NoProviderError(ProviderError):
    """Nothing that is configured or found can serve the model."""


class ToolError(NanobotError):
    """A tool failed in a way the model should read and act on."""


class AccessDenied(ToolError):
    """A path, address or command outside what the tools may touch."""


class McpError(NanobotError):
    """An MCP server cannot be started, reached or logged in to."""


class ChannelError(NanobotError):
    """A chat platform refused the request or cannot be reached.

    `permanent`: trying again is no use (chat gone, bot blocked). `retry_after` is in seconds.
    """

    def __init__(self, message: str, *, permanent: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.retry_after = retry_after


class MarkupRefused(ChannelError):
    """The platform does not take the formatting of a text."""


class MessageGone(ChannelError):
    """The message that was to be edited cannot be edited (any more)."""


class ScheduleError(NanobotError):
    """A cron expression, time or time zone cannot be understood."""


class SetUpAsked(Exception):
    """The owner wants to set up another model, and then to go on in the session that is the argument."""
