"""Embeddings. They are never streamed, and have no finish_reason: a body with `data` is whole. Pure."""

from typing import Final

import msgspec

from .content import Content, Reader, read_strange_body, read_stranger, skimming
from .fitting import Count, decoded


def read_event(data: bytes, content: Content) -> int:
    """No endpoint streams embeddings. If an SSE event comes all the same, it may be an error."""
    return read_stranger(data, content)


def read_body(body: bytes, content: Content) -> None:
    """Read a whole body into `content`. It is complete if it has `data`."""
    answer = decoded(_ANSWER, body)
    if answer is None or (answer.data is None and answer.usage is None):
        read_strange_body(body, content)
        return
    content.readable = True
    content.ended = answer.data is not None
    content.response_id = answer.id
    content.response_model = answer.model
    usage = answer.usage
    if usage is not None:
        # There is no output, so the total is the prompt's.
        content.input_tokens = usage.total_tokens if usage.prompt_tokens is None else usage.prompt_tokens


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: Count | None = None
    total_tokens: Count | None = None


class _Answer(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    data: list[msgspec.Raw] | None = None
    usage: _Usage | None = None


_ANSWER: Final = msgspec.json.Decoder(_Answer)

READER: Final = Reader(read_event, read_body, skimming(), skimming(_Answer))
