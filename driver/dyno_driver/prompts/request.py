"""What is sent for a prompt, as bytes that wait ready. Pure.

A prompt may have half a megabyte. It is encoded once, before the run begins. When its turn comes, only the few bytes
that differ from request to request are put around it:

    {"model": "…",  "messages": […], "tools": […],  "temperature": 0.0, "stream": true}
     the endpoint's  the prompt's own, encoded once   the run's parameters that the prompt doesn't set itself
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

CHAT_PATH: Final = "/v1/chat/completions"
COMPLETIONS_PATH: Final = "/v1/completions"

# Two names of one parameter: a request that has the one doesn't get the other.
_SAME: Final = ("max_tokens", "max_completion_tokens")


class Poll(NamedTuple):
    """How an answer that comes later is asked for.

    `path` may have fields of the first answer in braces: `/tasks/{id}`. `until`: dotted field → the values that mean
    done; none of them: it is enough that the field has a value. `failed`: the same, for what means that it failed.
    """

    path: str
    until: Mapping[str, tuple[Any, ...]]
    failed: Mapping[str, tuple[Any, ...]]
    every_s: float
    method: str = "GET"


@dataclass(frozen=True, slots=True)
class Request:
    """A request to an endpoint, without what differs from endpoint to endpoint.

    `path` begins with a slash: below `/v1/` it belongs to the endpoint's API, otherwise to its server. `content` are
    the members of the body's object, as JSON without the braces; where `own` is None, it is the whole body. `own` are
    the members that the prompt sets itself. `names_model`: the endpoint's model is put in. `takes_parameters`: so are
    the run's parameters that `own` doesn't have.
    """

    content: bytes
    own: Mapping[str, Any] | None
    path: str = CHAT_PATH
    method: str = "POST"
    names_model: bool = True
    takes_parameters: bool = True
    poll: Poll | None = None

    @property
    def is_chat(self) -> bool:
        """Whether a chat completion answers."""
        return self.method == "POST" and self.path == CHAT_PATH

    def body(self, model: str | None, parameters: Mapping[str, Any]) -> bytes:
        """The body for one endpoint. `parameters` are the run's, as members of the body."""
        if self.own is None:
            return self.content
        before = _members({"model": model}) if self.names_model else b""
        after = _members(self._added(parameters)) if self.takes_parameters else b""
        return b"{" + b", ".join(filter(None, (before, self.content, after))) + b"}"

    def _added(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        own = self.own or {}
        limited = any(name in own for name in _SAME)
        added = {
            name: value for name, value in parameters.items() if name not in own and not (limited and name in _SAME)
        }
        limit = next((own[name] for name in _SAME if name in own), None)
        if "min_tokens" in added:
            added["min_tokens"] = limit or added["min_tokens"]
            if added["min_tokens"] is None:  # nothing bounds the answer, so it has to end by itself
                del added["min_tokens"], added["ignore_eos"]
        # `stream_options` go with `stream`, whoever sets it.
        if own.get("stream") is False:
            added.pop("stream_options", None)
        elif own.get("stream") is True and "stream_options" not in own:
            added["stream_options"] = {"include_usage": True}
        return added


def chat(messages: Any, own: Mapping[str, Any] | None = None) -> Request:
    """A chat completion of these messages. `own`: other members of its body, such as `tools` or `max_tokens`."""
    members = {"messages": messages, **(own or {})}
    return Request(_members(members), members)


def text_request(text: str, own: Mapping[str, Any] | None = None) -> Request:
    """A chat completion of one text, as the user's only turn."""
    return chat([{"role": "user", "content": text}], own)


def with_body(body: Mapping[str, Any], **how: Any) -> Request:
    """A request with this body, an object. `how`: the other fields of Request."""
    return Request(_members(body), body, **how)


def _members(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, allow_nan=False).encode()[1:-1]
