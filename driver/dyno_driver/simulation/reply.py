"""A request → its simulated answer → the plan of the response. Pure: seed, counter and clock are arguments."""

from collections.abc import Iterator
from typing import Final

import orjson

from .answer import count_prompt_tokens, write_answer, write_reasoning
from .asked import Asked
from .draws import draw_fixed_s, draw_output_tokens, random_stream
from .plan import Plan, Send
from .profiles import Profile
from .wire import Envelope, Json, Reply

EVENT_STREAM: Final = ("Content-Type", "text/event-stream; charset=utf-8")
JSON_BODY: Final = ("Content-Type", "application/json")
DONE: Final = b"data: [DONE]\n\n"


def make_reply(
    asked: Asked,
    profile: Profile,
    *,
    seed: int,
    occurrence: int,
    created_unix_s: float,
    time_scale: float = 1.0,
    others: int = 0,
) -> Reply:
    """The answer to a prompt that was asked `occurrence` times before, while `others` are being answered.

    Its text, length and times are the same in every run with the same seed and load.
    """
    stream = random_stream(seed, "times", profile.name, asked.prompt, occurrence)
    fixed_s = draw_fixed_s(profile.fixed_s, profile.spread_s, stream)
    wanted = profile.output_tokens or draw_output_tokens(seed, profile.name, asked.prompt, occurrence)
    reasoning_tokens = round(wanted * profile.reasoning_share) if asked.chat else 0
    allowed = wanted if asked.max_tokens is None else min(wanted, asked.max_tokens)
    prompt_tokens = count_prompt_tokens(asked.prompt, profile.template_tokens if asked.chat else 0)
    fixed_s += prompt_tokens * profile.per_prompt_token_s
    reply_id = f"{'chatcmpl' if asked.chat else 'cmpl'}-{stream.getrandbits(96):024x}"
    return Reply(
        envelope=Envelope(reply_id, asked.model or profile.model, created_unix_s, asked.chat),
        reasoning=write_reasoning(reasoning_tokens)[:allowed],
        answer=write_answer(asked.prompt, wanted - reasoning_tokens)[: max(0, allowed - reasoning_tokens)],
        finish_reason="stop" if allowed == wanted else "length",
        prompt_tokens=prompt_tokens,
        fixed_s=fixed_s * time_scale,
        per_token_s=profile.per_token_s * (1 + profile.slowing * others) * time_scale,
    )


def plan_reply(reply: Reply, asked: Asked, profile: Profile) -> Plan:
    """The plan that sends `reply`.

    A stream's head is sent at once, then one chunk per token when it is due. Other answers are sent whole at the end.
    """
    end_s = reply.usage.latency_s
    headers = profile.wire.headers(reply)
    if not asked.stream:
        body = Send(end_s, orjson.dumps(profile.wire.body(reply)))
        return Plan(200, (JSON_BODY, *headers), "length", (body,), head_at_s=end_s, end_at_s=end_s)
    sends = tuple(_stream(reply, asked, profile))
    return Plan(200, (EVENT_STREAM, *headers), "chunked", sends, head_at_s=0.0, end_at_s=end_s)


def plan_json(status: int, body: Json, *, headers: tuple[tuple[str, str], ...] = ()) -> Plan:
    """The plan of a small JSON answer that is sent at once."""
    send = Send(0.0, orjson.dumps(body))
    return Plan(status, (JSON_BODY, *headers), "length", (send,), head_at_s=0.0, end_at_s=0.0)


def sse_event(payload: Json) -> bytes:
    """The bytes of one SSE event with this JSON as its data."""
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def _stream(reply: Reply, asked: Asked, profile: Profile) -> Iterator[Send]:
    wire, envelope = profile.wire, reply.envelope
    pieces = [(piece, True) for piece in reply.reasoning] + [(piece, False) for piece in reply.answer]
    for number, (piece, reasoning) in enumerate(pieces, 1):
        chunk = wire.chunk(envelope, piece, reasoning=reasoning)
        if asked.include_usage and asked.continuous_usage:
            chunk["usage"] = wire.usage(reply.usage_after(number), envelope)
        data = sse_event(chunk)
        if number == 1 and envelope.chat:
            # Servers send the role together with the first token, in an SSE event of its own.
            data = sse_event(wire.chunk(envelope, role=True)) + data
        yield Send(reply.fixed_s + number * reply.per_token_s, data)
    final = wire.final_chunks(reply, include_usage=asked.include_usage)
    yield Send(reply.usage.latency_s, b"".join(map(sse_event, final)) + DONE)
