"""Conversations, in OpenAI's form (`role`, `content`) or ShareGPT's (`from`, `value`), as chat messages. Pure.

What is sent ends with the last turn that a model answers: a user's, or a tool's result. Recorded answers after it are
kept and not sent.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from .cells import BrokenRecordError, NothingToAskError, clean_json, parsed

Message = dict[str, Any]

ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")
_CALL: Final = "call"
# ShareGPT's names, with those that its relatives use.
_FROM: Final = {
    **dict.fromkeys(("human", "user", "prompter"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "model", "bot", "bing", "bard", "claude"), "assistant"),
    "system": "system",
    **dict.fromkeys(("tool", "observation", "function", "function_response", "tool_response"), "tool"),
    "function_call": _CALL,
}


def is_conversation(value: Any) -> bool:
    """Whether a cell holds turns: a list of objects."""
    value = parsed(value)
    return isinstance(value, list) and all(isinstance(turn, Mapping) for turn in value)


def is_sharegpt(turns: Sequence[Any]) -> bool:
    """Whether the turns have ShareGPT's names."""
    return any(isinstance(turn, Mapping) and ("from" in turn or "value" in turn) for turn in turns)


def chat_messages(turns: Sequence[Any]) -> list[Message]:
    """The messages of a conversation in OpenAI's form. Raises BrokenRecordError for one that no server takes."""
    return [_message(turn, number) for number, turn in enumerate(turns, start=1)]


def sharegpt_messages(turns: Sequence[Any], system: Any = None) -> list[Message]:
    """The messages of a ShareGPT conversation. `system`: what its record has under that name.

    Blank turns, and answers before the first question, are left out: the set was cut from longer conversations.
    """
    messages: list[Message] = []
    if isinstance(system, str) and system.strip():
        messages.append({"role": "system", "content": system})
    calls = 0
    for number, turn in enumerate(turns, start=1):
        role, value = _from(turn, number)
        if not value.strip():
            continue
        if role in ("assistant", _CALL) and all(message["role"] == "system" for message in messages):
            continue
        if role == _CALL:
            calls += 1
            messages.append({"role": "assistant", "content": None, "tool_calls": [_called(value, calls)]})
        elif role == "tool":
            messages.append({"role": role, "content": value, "tool_call_id": f"call_{max(1, calls)}"})
        else:
            messages.append({"role": role, "content": value})
    cleaned: list[Message] = clean_json(messages)
    return cleaned


def answerable(messages: Sequence[Message]) -> list[Message]:
    """The messages up to the last that a model answers. Raises NothingToAskError if no user has a turn there."""
    sent = list(messages)
    while sent and sent[-1]["role"] == "assistant":
        sent.pop()
    if not any(message["role"] == "user" for message in sent):
        raise NothingToAskError("has no user's turn to answer; add one with role 'user' (from 'human' in ShareGPT)")
    last = sent[-1]
    if last["role"] == "user" and not readable(last).strip():
        raise NothingToAskError("has a blank last user's turn; fill its 'content' or remove the record")
    return sent


def last_question(messages: Sequence[Message]) -> str:
    """The text of the last user's turn."""
    return next((readable(message) for message in reversed(messages) if message["role"] == "user"), "")


def readable(message: Mapping[str, Any]) -> str:
    """A message's text. Parts that aren't text stand as `[image]`, `[audio]` and the like."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    known = [part for part in parts if isinstance(part, Mapping)]
    texts = [str(part.get("text") or "") if part.get("type") == "text" else f"[{_kind(part)}]" for part in known]
    return "\n".join(filter(None, texts))


def _kind(part: Mapping[str, Any]) -> str:
    kind = str(part.get("type"))
    return kind.removeprefix("input_").removesuffix("_url")


def _message(turn: Any, number: int) -> Message:
    if not isinstance(turn, Mapping):
        raise BrokenRecordError(f"turn {number} must be an object with 'role' and 'content'")
    role = turn.get("role")
    if role not in ROLES:
        shown = "no role" if role is None else f"the unknown role {str(role)[:40]!r}"
        raise BrokenRecordError(f"turn {number} has {shown}; roles are {', '.join(ROLES)}")
    # Parquet has a null for each key that another message has.
    message = {name: value for name, value in turn.items() if value is not None or name == "content"}
    content = message.get("content")
    if isinstance(content, list):
        message["content"] = [_part(part, number) for part in content]
    elif content is None:
        if role != "assistant" or not (message.get("tool_calls") or message.get("function_call")):
            raise BrokenRecordError(f"turn {number} has no 'content'; give a text, or a list of parts")
    elif not isinstance(content, str):
        raise BrokenRecordError(f"turn {number} has a 'content' that is neither a text nor a list of parts")
    cleaned: Message = clean_json(message)
    return cleaned


def _part(part: Any, number: int) -> Message:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
        raise BrokenRecordError(
            f"turn {number} has a part without 'type'; use 'text' or 'image_url', as in OpenAI's API"
        )
    known = {name: value for name, value in part.items() if value is not None}
    if known["type"] == "text" and not isinstance(known.get("text"), str):
        raise BrokenRecordError(f"turn {number} has a text part without 'text'")
    if known["type"] == "image_url":
        image = known.get("image_url")
        url = image.get("url") if isinstance(image, Mapping) else image
        if not isinstance(url, str) or not url.startswith(("data:", "https://", "http://")):
            raise BrokenRecordError(f"turn {number} has an image without a data: or https: URL in 'image_url.url'")
        if not isinstance(image, Mapping):
            known["image_url"] = {"url": url}
    return known


def _from(turn: Any, number: int) -> tuple[str, str]:
    """A ShareGPT turn's role and text."""
    if not isinstance(turn, Mapping) or "from" not in turn or "value" not in turn:
        raise BrokenRecordError(f"turn {number} must be an object with 'from' and 'value'")
    role = _FROM.get(str(turn["from"]).strip().lower())
    if role is None:
        known = "human, gpt, system, tool, function_call, observation"
        raise BrokenRecordError(f"turn {number} has the unknown 'from' {str(turn['from'])[:40]!r}; known are {known}")
    value = turn["value"]
    if value is not None and not isinstance(value, str):
        raise BrokenRecordError(f"turn {number} has a 'value' that is no text")
    return role, value or ""


def _called(value: str, number: int) -> Message:
    """A tool call, which ShareGPT's relatives write as JSON with `name` and `arguments`."""
    call = parsed(value)
    if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
        raise BrokenRecordError("has a function_call that is no JSON with 'name' and 'arguments'")
    arguments = call.get("arguments", {})
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"id": f"call_{number}", "type": "function", "function": {"name": call["name"], "arguments": text}}
