"""Embeddings. They are never streamed, and have no finish_reason: a body with `data` is whole. Pure."""

from typing import Final

import msgspec

from .content import Content, Reader, decoded, read_strange_body, read_stranger, skimming


def read_event(data: bytes, content: Content) -> int:
    """No endpoint streams embeddings. If an SSE event comes all the same, it may be an error."""
    return read_stranger(data, content)


def read_body(body: bytes, content: Content) -> None:
    """Read a whole body into `content`. It is complete if it has `data`."""
    answer = decoded(_ANSWER, body)
    if answer is None or answer.data is None:
        read_strange_body(body, content)
        return
    content.readable = content.ended = True
    content.response_id = answer.id
    content.response_model = answer.model
    if answer.usage is not None:
        content.input_tokens = answer.usage.prompt_tokens


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None


class _Answer(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    data: list[msgspec.Raw] | None = None
    usage: _Usage | None = None


_ANSWER: Final = msgspec.json.Decoder(_Answer)

READER: Final = Reader(read_event, read_body, skimming(), skimming(_Answer))
