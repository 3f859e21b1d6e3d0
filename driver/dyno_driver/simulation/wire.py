"""OpenAI's JSON for chat completions and completions, streamed and not. `vendors` has the other vendors' differences.

Pure: times and ids come with the `Reply`.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

Json = dict[str, Any]


class Envelope(NamedTuple):
    """The fields that every chunk of an answer repeats."""

    reply_id: str
    model: str
    created_unix_s: float
    chat: bool


class Usage(NamedTuple):
    """Token counts so far, and the server's own times in seconds."""

    prompt_tokens: int
    output_tokens: int
    reasoning_tokens: int
    fixed_s: float  # until the output began
    decode_s: float

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens

    @property
    def latency_s(self) -> float:
        return self.fixed_s + self.decode_s

    @property
    def ttft_s(self) -> float:
        return self.fixed_s + (self.decode_s / self.output_tokens if self.output_tokens else 0.0)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer, before it takes a vendor's JSON shape. The reasoning and the answer are tuples of tokens."""

    envelope: Envelope
    reasoning: tuple[str, ...]
    answer: tuple[str, ...]
    finish_reason: str
    prompt_tokens: int
    fixed_s: float
    per_token_s: float

    @property
    def usage(self) -> Usage:
        return self.usage_after(len(self.reasoning) + len(self.answer))

    def usage_after(self, tokens: int) -> Usage:
        """The counts and times after `tokens` tokens; the reasoning's tokens come first."""
        reasoning = min(tokens, len(self.reasoning))
        return Usage(self.prompt_tokens, tokens, reasoning, self.fixed_s, self.per_token_s * tokens)


class Wire:
    """OpenAI's shapes: one method per part of a response. A vendor's class overrides what differs."""

    reasoning_field = "reasoning"

    def headers(self, reply: Reply) -> tuple[tuple[str, str], ...]:
        return (
            ("x-request-id", f"req_{reply.envelope.reply_id}"),
            ("openai-processing-ms", str(round(reply.usage.latency_s * 1000))),
            ("x-ratelimit-limit-requests", "10000"),
            ("x-ratelimit-remaining-requests", "9999"),
        )

    def created(self, unix_s: float) -> int | float:
        return int(unix_s)

    def chunk(
        self,
        envelope: Envelope,
        text: str | None = None,
        *,
        reasoning: bool = False,
        finish_reason: str | None = None,
        role: bool = False,
    ) -> Json:
        """One chunk of a stream: its first one (`role`), a piece of text, or the end (`finish_reason`)."""
        if envelope.chat:
            delta = self.delta(text, reasoning=reasoning)
            if role:
                delta = {"role": "assistant", "content": "", **delta}
            choice: Json = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        else:
            choice = {"index": 0, "text": text or "", "logprobs": None, "finish_reason": finish_reason}
        return self.wrap_chunk(envelope, [self.complete_choice(choice)])

    def delta(self, text: str | None, *, reasoning: bool) -> Json:
        if text is None:
            return {}
        return {self.reasoning_field if reasoning else "content": text}

    def tool_call(self, envelope: Envelope, call: Json) -> Json:
        choice = {"index": 0, "delta": {"tool_calls": [call]}, "logprobs": None, "finish_reason": None}
        return self.wrap_chunk(envelope, [self.complete_choice(choice)])

    def complete_choice(self, choice: Json) -> Json:
        """The choice with the vendor's own fields added."""
        return choice

    def wrap_chunk(self, envelope: Envelope, choices: list[Json]) -> Json:
        return {
            "id": envelope.reply_id,
            "object": "chat.completion.chunk" if envelope.chat else "text_completion",
            "created": self.created(envelope.created_unix_s),
            "model": envelope.model,
            "choices": choices,
        }

    def final_chunks(self, reply: Reply, *, include_usage: bool) -> list[Json]:
        """The chunks after the last token: the finish reason, and the usage if it was asked for."""
        chunks = [self.chunk(reply.envelope, finish_reason=reply.finish_reason)]
        if include_usage:
            chunks.append(self.usage_chunk(reply.envelope, reply.usage))
        return chunks

    def usage_chunk(self, envelope: Envelope, usage: Usage) -> Json:
        return {**self.wrap_chunk(envelope, []), "usage": self.usage(usage, envelope)}

    def usage(self, usage: Usage, _envelope: Envelope) -> Json:
        return {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": usage.reasoning_tokens,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    def body(self, reply: Reply) -> Json:
        """The body of an answer that isn't streamed."""
        answer = "".join(reply.answer)
        choice: Json = {"index": 0, "finish_reason": reply.finish_reason, "logprobs": None}
        if reply.envelope.chat:
            message: Json = {"role": "assistant", "content": answer}
            if reply.reasoning:
                message[self.reasoning_field] = "".join(reply.reasoning)
            choice["message"] = message
        else:
            choice["text"] = answer
        return {
            **self.wrap_chunk(reply.envelope, [self.complete_choice(choice)]),
            "object": "chat.completion" if reply.envelope.chat else "text_completion",
            "usage": self.usage(reply.usage, reply.envelope),
        }

    def error(self, status: int, message: str, _request_id: str) -> Json:
        kind = error_kind(status)
        return {"error": {"message": message, "type": kind, "param": None, "code": None}}

    def models(self, model: str) -> Json:
        return {"object": "list", "data": [{"id": model, "object": "model", "created": 0, "owned_by": "dyno-simulate"}]}


def error_kind(status: int) -> str:
    """OpenAI's `error.type` for a status."""
    if status == 429:
        return "rate_limit_error"
    if status in (401, 403):
        return "authentication_error"
    return "server_error" if status >= 500 else "invalid_request_error"
