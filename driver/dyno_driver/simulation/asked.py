"""A request's body → the fields that the simulator needs. Pure."""

from typing import Any, NamedTuple

import orjson


class RequestError(ValueError):
    """The body is invalid, or asks for what the simulator doesn't do; the message says why."""


class Asked(NamedTuple):
    """What a request asks. `chat`: a chat completion, otherwise a completion. None: the request doesn't say."""

    model: str | None
    prompt: str
    chat: bool
    max_tokens: int | None
    stream: bool
    include_usage: bool
    continuous_usage: bool


def read_request(body: bytes, *, chat: bool) -> Asked:
    """What the body asks. Raises RequestError if it can't be answered."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise RequestError("the body must be a JSON object")
    if fields.get("n", 1) not in (1, None):
        raise RequestError("n must be 1: the simulator makes one choice per request")
    limit = fields.get("max_completion_tokens")
    limit = fields.get("max_tokens") if limit is None else limit
    if limit is not None and (type(limit) is not int or limit < 1):
        raise RequestError("max_tokens must be a positive integer")
    model = fields.get("model")
    options = fields.get("stream_options")
    options = options if isinstance(options, dict) else {}
    return Asked(
        model=model if isinstance(model, str) else None,
        prompt=_conversation(fields.get("messages")) if chat else _plain_prompt(fields.get("prompt")),
        chat=chat,
        max_tokens=limit,
        stream=fields.get("stream") is True,
        include_usage=options.get("include_usage") is True,
        continuous_usage=options.get("continuous_usage_stats") is True,
    )


def _conversation(messages: Any) -> str:
    if not isinstance(messages, list) or not messages:
        raise RequestError("messages must be a list with at least one message")
    lines = []
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise RequestError("each message must be an object with a role")
        content = message.get("content")
        if isinstance(content, list):
            content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
        elif content is None:
            content = ""
        elif not isinstance(content, str):
            raise RequestError("a message's content must be a string or a list of parts")
        lines.append(content)
    return "\n".join(lines)


def _plain_prompt(prompt: Any) -> str:
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise RequestError("prompt must be a string, or a list of one string")
    return prompt
