"""A record's cells as text, lists and parameters. Pure.

JSON has types, CSV has texts, and Parquet fills gaps with nulls.
"""

import contextlib
import json
from collections.abc import Mapping
from typing import Any, Final

# Members of a chat completion's body that a conversation's record may set. Any other goes into `parameters`.
_OF_CONVERSATIONS: Final = frozenset(
    (
        *("max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "stream"),
        *("presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "logprobs", "top_logprobs"),
        *("tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort"),
    )
)
# A text's record has columns of any name and meaning, so fewer names count.
_OF_TEXTS: Final = frozenset(("max_tokens", "max_completion_tokens", "temperature", "top_p"))
_COUNTS: Final = frozenset(("max_tokens", "max_completion_tokens", "top_k"))
_NUMBERS: Final = _COUNTS | {"temperature", "top_p", "min_p", "seed"}


class BrokenRecordError(ValueError):
    """A record can't be used. The message says why and what to mend; its reader adds the file and the number."""


class NothingToAskError(BrokenRecordError):
    """A record has no turn that a model could answer."""


def text_of(row: Mapping[str, Any], column: str) -> str | None:
    """The column as text; None if it is missing or blank."""
    value = row.get(column)
    if value is None:
        return None
    text = clean(str(value))
    return text if text.strip() else None


def clean(text: str) -> str:
    """The text with lone surrogates as question marks: JSON can spell them, but UTF-8 and Parquet can't hold them."""
    return text.encode("utf-8", "replace").decode("utf-8")


def clean_json(value: Any) -> Any:
    """The value with every text in it clean. BrokenRecordError where JSON can't hold it."""
    try:
        return _cleaned(value)
    except RecursionError:
        raise BrokenRecordError("is nested too deep; make it flatter") from None


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(name)): _cleaned(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(entry) for entry in value]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise BrokenRecordError("has NaN or Infinity, which JSON can't hold; use null")
        return value
    raise BrokenRecordError(f"has a {type(value).__name__}, which JSON can't hold; use a text or a number")


def parsed(value: Any) -> Any:
    """A cell that holds JSON as text, read; any other as it is."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        # If this isn't JSON, it is a text that begins with a bracket.
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def parameters_of(row: Mapping[str, Any], *, conversation: bool) -> dict[str, Any]:
    """The members of the body that the record sets itself: by columns of their names, or in `parameters`."""
    found: dict[str, Any] = {}
    for name in sorted(_OF_CONVERSATIONS if conversation else _OF_TEXTS):
        value = row.get(name)
        if value is None or value == "" or value != value:
            continue  # a gap in a column of numbers is null, blank or NaN
        found[name] = _number(name, value) if name in _NUMBERS else parsed(value)
    more = parsed(row.get("parameters"))
    if isinstance(more, Mapping):
        found |= {name: _number(name, v) if name in _NUMBERS else v for name, v in more.items() if v is not None}
    for name in ("model", "messages"):
        found.pop(name, None)  # the model is the endpoint's own
    tools = found.get("tools")
    if tools == []:
        del found["tools"]  # servers refuse an empty list
    elif tools is not None and not (isinstance(tools, list) and all(isinstance(tool, Mapping) for tool in tools)):
        raise BrokenRecordError("'tools' must be a list of objects, as in OpenAI's API")
    if not isinstance(found.get("stream", True), bool):
        raise BrokenRecordError("'stream' must be true or false")
    cleaned: dict[str, Any] = clean_json(found)
    return cleaned


def _number(name: str, value: Any) -> Any:
    """The number. CSV has it as text, and a column of numbers with gaps has 64.0 for 64."""
    number: Any = value
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            number = None
    whole = isinstance(number, float) and number.is_integer()
    if whole and (name in _COUNTS or name == "seed"):
        number = int(number)
    if not isinstance(number, int | float) or isinstance(number, bool):
        raise BrokenRecordError(f"'{name}' must be a number, and is {str(value)[:40]!r}")
    if name in _COUNTS and not (isinstance(number, int) and number >= (1 if name != "top_k" else -1)):
        raise BrokenRecordError(f"'{name}' must be a whole number, 1 or more, and is {str(value)[:40]!r}")
    return number


def answers_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The record's reference answers, without repetition.

    They may be a text, a list, SQuAD's `{"text": […]}` or `[{"text": …}]`, or one of these as JSON in a cell.
    """
    value: Any = None
    for column in ("answers", "answer", "reference_answers"):
        value = row.get(column)
        if value is not None:
            break
    value = parsed(value)
    if isinstance(value, Mapping):
        value = value.get("text")
    if value is None:
        return ()
    texts = [item.get("text") if isinstance(item, Mapping) else item for item in _each(value)]
    if any(isinstance(text, list | Mapping) for text in texts):
        raise BrokenRecordError("has answers of an unknown shape; use a list of texts")
    return tuple(dict.fromkeys(clean(str(text)) for text in texts if text is not None and str(text).strip()))


def _each(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
