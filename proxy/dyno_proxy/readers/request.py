"""What a request asks for. Pure."""

from typing import Any, Final

import msgspec

from .skim import Skim, wanted


class RequestBody(msgspec.Struct, gc=False):
    """The parameters in a request's body. A field is None where the body lacks it.

    Otherwise it has whatever type the client gave it.
    """

    model: Any = None
    stream: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    temperature: Any = None
    top_p: Any = None
    seed: Any = None

    def parameters(self) -> tuple[str | None, bool | None, int | None, float | None, float | None, int | None]:
        """(model, stream, max_tokens, temperature, top_p, seed); None for a value of the wrong type."""
        model, stream = self.model, self.stream
        return (
            model if isinstance(model, str) else None,
            stream if isinstance(stream, bool) else None,
            _integer(self.max_tokens, self.max_completion_tokens, self.max_output_tokens),
            _float(self.temperature),
            _float(self.top_p),
            _integer(self.seed),
        )


def read_request(body: bytes) -> RequestBody:
    """The parameters of a JSON request; all None where the body isn't a JSON object."""
    try:
        return _REQUEST.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return RequestBody()


def skim_request() -> Skim:
    """Skims a long request for its parameters."""
    return Skim(_WANTED)


def _integer(*values: object) -> int | None:
    """The first integer of the values; a bool isn't one."""
    for value in values:
        if type(value) is int:
            return value
    return None


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


_REQUEST: Final = msgspec.json.Decoder(RequestBody)


class _Rewritten(RequestBody, gc=False):
    """Beside the parameters, what the proxy itself may change in a request."""

    stream_options: msgspec.Raw = msgspec.Raw(b"null")


_WANTED: Final = wanted(_Rewritten)
