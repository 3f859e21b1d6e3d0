"""What a request asks for. Pure."""

from typing import Any, Final

import msgspec


class RequestBody(msgspec.Struct, gc=False):
    """Fields are None where they are missing; their types are the client's."""

    model: Any = None
    stream: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    temperature: Any = None
    top_p: Any = None
    seed: Any = None


def read_request(body: bytes) -> RequestBody:
    """The parameters of a JSON request; all None where the body isn't a JSON object."""
    try:
        return _REQUEST.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return RequestBody()


_REQUEST: Final = msgspec.json.Decoder(RequestBody)
