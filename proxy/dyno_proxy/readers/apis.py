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


def may_ask_usage(rest: str) -> bool:
    """Whether a request to this path, which begins after /v1, may ask for its usage."""
    api = APIS.get(rest)
    return api is not None and api.may_ask_usage
