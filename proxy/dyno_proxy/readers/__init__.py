"""What the bodies and SSE events of each API say: one reader an API. Pure: bytes in, a `Content` filled, flags out."""

from typing import Final

from . import chat, embeddings, messages, responses
from .content import ANSWER, DONE, EVENT, OUTPUT, REASONING, Content, Reader
from .request import RequestBody, read_request
from .retry_after import read_retry_after, seconds_said

__all__ = [
    "ANSWER",
    "DONE",
    "EVENT",
    "OUTPUT",
    "READERS",
    "REASONING",
    "Content",
    "Reader",
    "RequestBody",
    "read_request",
    "read_retry_after",
    "seconds_said",
]

# The path after /v1 -> how to read what comes back
READERS: Final = {
    "/chat/completions": Reader(chat.read_event, chat.read_body),
    "/completions": Reader(chat.read_event, chat.read_body),
    "/responses": Reader(responses.read_event, responses.read_body),
    "/messages": Reader(messages.read_event, messages.read_body),
    "/embeddings": Reader(embeddings.read_event, embeddings.read_body),
}
