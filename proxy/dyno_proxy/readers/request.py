"""What a request asks for. Pure."""

from typing import Any, Final

import msgspec

from .fitting import decoded
from .skim import Skim, wanted

_LABEL_CHARACTERS: Final = 64  # of a level of reasoning
_SKIMMED_LIST: Final = b"[0]"  # stands in the place of a list that isn't kept


class _Effort(msgspec.Struct, gc=False):
    effort: Any = None


class _Template(msgspec.Struct, gc=False):
    reasoning_effort: Any = None


class _Metadata(msgspec.Struct, gc=False):
    user_id: Any = None


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
    n: Any = None
    top_k: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    # The level of reasoning, as each API has it: chat, responses, Anthropic's, vLLM's
    reasoning_effort: Any = None
    reasoning: _Effort | None = None
    output_config: _Effort | None = None
    chat_template_kwargs: _Template | None = None
    # Who asks: OpenAI's, its newer name, Anthropic's
    user: Any = None
    safety_identifier: Any = None
    metadata: _Metadata | None = None
    prompt: msgspec.Raw | None = None

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

    def rarer(self) -> dict[str, str | int | float | bool]:
        """What few requests say: attribute name -> value."""
        found: dict[str, str | int | float | bool | None] = {
            "gen_ai.request.reasoning.level": self._reasoning_level(),
            "gen_ai.request.top_k": _integer(self.top_k),
            "gen_ai.request.frequency_penalty": _float(self.frequency_penalty),
            "gen_ai.request.presence_penalty": _float(self.presence_penalty),
            "gen_ai.request.choice.count": _integer(self.n),
        }
        return {name: value for name, value in found.items() if value is not None}

    def asking_user(self) -> str | None:
        """Who asks, in the client's own words; None where it doesn't say."""
        for value in (self.user, self.safety_identifier, self.metadata and self.metadata.user_id):
            if isinstance(value, str) and value:
                return value
        return None

    @property
    def says_more(self) -> bool:
        """Whether there is anything for `rarer`, `asking_user` or `choices` to find."""
        return not (
            self.n is None
            and self.prompt is None
            and self.top_k is None
            and self.frequency_penalty is None
            and self.presence_penalty is None
            and self.reasoning_effort is None
            and self.reasoning is None
            and self.output_config is None
            and self.chat_template_kwargs is None
            and self.user is None
            and self.safety_identifier is None
            and self.metadata is None
        )

    def choices(self) -> int | None:
        """How many choices the answer should have; None where that isn't known."""
        count = 1 if self.n is None else _integer(self.n)
        if count is None or count < 1:
            return None
        prompts = 1 if self.prompt is None else _prompts(bytes(self.prompt))
        return None if prompts is None else count * prompts

    def _reasoning_level(self) -> str | None:
        said = self.reasoning_effort
        for nested in (self.reasoning, self.output_config):
            if said is None and nested is not None:
                said = nested.effort
        if said is None and self.chat_template_kwargs is not None:
            said = self.chat_template_kwargs.reasoning_effort
        return said[:_LABEL_CHARACTERS] if isinstance(said, str) and said else None


def read_request(body: bytes) -> RequestBody:
    """The parameters of a JSON request; all None where the body isn't a JSON object."""
    return decoded(_REQUEST, body) or RequestBody()


def skim_request() -> Skim:
    """Skims a long request for its parameters."""
    return Skim(_WANTED)


def _prompts(prompt: bytes) -> int | None:
    """How many prompts a completion has: a text or a list of tokens is one, a list of these as many as it has."""
    if not prompt.startswith(b"["):
        return 1
    if prompt == _SKIMMED_LIST:
        return None
    try:
        items = _ITEMS.decode(prompt)
    except msgspec.DecodeError:
        return None
    return len(items) if items and bytes(items[0])[:1] in (b'"', b"[") else 1


def _integer(*values: object) -> int | None:
    """The first integer of the values; a bool isn't one."""
    for value in values:
        if type(value) is int:
            return value
    return None


def _float(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


_REQUEST: Final = msgspec.json.Decoder(RequestBody)
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])


class _Rewritten(RequestBody, gc=False):
    """Beside the parameters, what the proxy itself may change in a request."""

    stream_options: msgspec.Raw = msgspec.Raw(b"null")


_WANTED: Final = wanted(_Rewritten)
