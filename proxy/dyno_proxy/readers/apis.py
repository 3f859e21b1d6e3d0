"""The APIs that Dyno can read: the one place that lists them. Pure."""

from typing import Final, NamedTuple

from . import chat, embeddings, messages, responses
from .content import Reader


class Api(NamedTuple):
    """One API: what it is called, how it is read, and what may be changed in its requests."""

    operation: str  # by OpenTelemetry's GenAI conventions
    reader: Reader
    may_ask_usage: bool = False  # its streams take `stream_options.include_usage`; the other APIs refuse it


# By the path after /v1
APIS: Final = {
    "/chat/completions": Api("chat", chat.READER, may_ask_usage=True),
    "/completions": Api("text_completion", chat.READER, may_ask_usage=True),
    "/responses": Api("chat", responses.READER),
    "/messages": Api("chat", messages.READER),
    "/embeddings": Api("embeddings", embeddings.READER),
}


# `gen_ai.provider.name` where the configuration doesn't say it: the conventions demand it, and take the API's own
# provider for one that many others offer.
OPENAI: Final = "openai"
_ANTHROPIC: Final = "anthropic"


def provider_of(reader: Reader | None) -> str:
    """The provider whose API this is; OpenAI where it is none of those that are read."""
    return _ANTHROPIC if reader is messages.READER else OPENAI


def may_ask_usage(rest: str) -> bool:
    """Whether a request to this path, which begins after /v1, may ask for its usage."""
    api = APIS.get(rest)
    return api is not None and api.may_ask_usage
