"""One prompt: what is sent, what a person reads of it, and the answers that it can be scored against. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dyno_driver.load.schedule import WARMUP_PROMPT_ID

from .request import Request, text_request
from .turns import readable

_WARMUP_PROMPT: Final = "Question: Which planet is closest to the Sun?\n\nAnswer:"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question. A part that the source doesn't have is None.

    `prompt` is the text as it is sent; of a conversation its last user's turn, and of another request what a person
    can read of it. `max_tokens`: its own limit, instead of the run's. `parameters` are its own members of the body,
    such as `top_p`; they go before the run's. `request` is what is sent where that is more than `prompt`.
    `conversation` has all turns as chat messages, also recorded answers that aren't sent. `tokens`: by the tokenizer,
    where one is configured. `turn`: its number, from 1, in the conversation `conversation_id`, where all
    turns are sent.
    """

    prompt_id: str
    prompt: str
    question: str | None = None
    context: str | None = None
    title: str | None = None
    domain: str | None = None
    reference_answers: tuple[str, ...] = ()
    max_tokens: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    request: Request | None = None
    conversation: tuple[Mapping[str, Any], ...] = ()
    tokens: int | None = None
    conversation_id: str | None = None
    turn: int | None = None

    @property
    def longest_answer(self) -> int | None:
        """Its own limit of tokens, by any name; None if it has none."""
        own = {**self.parameters, **((self.request.own if self.request is not None else None) or {})}
        limits = (own.get("max_completion_tokens"), own.get("max_tokens"), self.max_tokens)
        return next((limit for limit in limits if isinstance(limit, int)), None)

    def ready(self) -> Request:
        """What is sent, encoded."""
        if self.request is not None:
            return self.request
        limit = {} if self.max_tokens is None else {"max_tokens": self.max_tokens}
        return text_request(self.prompt, {**limit, **self.parameters})

    def whole_text(self) -> str:
        """All text that is sent, earlier turns too: what its tokens are counted of."""
        if self.request is None:
            return self.prompt
        messages = (self.request.own or {}).get("messages")
        if not isinstance(messages, list | tuple):
            return self.prompt
        return "\n".join(readable(message) for message in messages if isinstance(message, Mapping))


WARMUP: Final = Prompt(WARMUP_PROMPT_ID, _WARMUP_PROMPT)


def published_prompt(question: str, context: str | None) -> str:
    """The published benchmark's prompt. Without a passage (`context`), its first part is left out."""
    asked = f"Question: {question}\n\nAnswer:"
    return f"Context: {context}\n\n{asked}" if context else asked
