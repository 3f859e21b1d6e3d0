"""Chat exchanges as engines and gateways really send them, each with its verdict. Proxy and driver are fed the same.

`answered` in rigs/exchanges.py plays a case for the proxy; `driver_error` does so for the driver.
"""

import json
from typing import Any, NamedTuple

from dyno_driver.response import EventSplitter, Reading, is_stream

DONE = b"[DONE]"


class Case(NamedTuple):
    """A body of status 200, and the proxy's outcome for it. `tokens`: input and output by the server's count."""

    name: str
    body: bytes
    outcome: str
    tokens: tuple[int | None, int | None] = (None, None)


def sse(*payloads: Any) -> bytes:
    """A stream. A text is an event as it stands, a dict is the data of one."""
    parts = []
    for payload in payloads:
        if isinstance(payload, str):
            parts.append(payload.encode() + b"\n\n")
        else:
            data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
            parts.append(b"data: " + data + b"\n\n")
    return b"".join(parts)


def chunk(text: str | None = None, finish: Any = None, index: Any = 0, **more: Any) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"id": "c1", "model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": finish}], **more}


def usage(prompt: Any = 4, completion: Any = 2, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, **more}


A, B, STOP = chunk("Hello"), chunk(" world"), chunk(None, "stop")
USAGE = {"id": "c1", "choices": [], "usage": usage()}
XAI = {"prompt_tokens": 4, "completion_tokens": 9, "total_tokens": 107,
       "completion_tokens_details": {"reasoning_tokens": 94}}  # fmt: skip


def _ends() -> list[Case]:
    cases = [
        Case("an ordinary stream", sse(A, B, STOP, USAGE, DONE), "ok", (4, 2)),
        Case("without [DONE]", sse(A, B, STOP), "ok"),
        Case("the last event without its empty line", sse(A, B, STOP)[:-2], "ok"),
        Case("a gateway's [DONE] alone", sse(A, B, DONE), "truncated"),
        Case("nothing but [DONE]", sse(DONE), "truncated"),
        Case("usage and [DONE], no finish_reason", sse(A, B, USAGE, DONE), "ok", (4, 2)),
        Case("usage in a last, empty choice, and [DONE]", sse(A, B, chunk(None, usage=usage()), DONE), "ok", (4, 2)),
        Case("usage without [DONE]", sse(A, B, USAGE), "truncated", (4, 2)),
        Case("usage, more output, and [DONE]", sse(A, USAGE, B, DONE), "truncated", (4, 2)),
        Case("empty usage and [DONE]", sse(A, B, chunk(None, usage={}), DONE), "truncated"),
        Case(
            "continuous usage that is cut",
            sse(A | {"usage": usage(4, 1)}, B | {"usage": usage(4, 2)}, DONE),
            "truncated",
            (4, 2),
        ),
        Case(
            "continuous usage, cut at an empty delta",
            sse(A | {"usage": usage(4, 1)}, chunk("", usage=usage(4, 2)), DONE),
            "truncated",
            (4, 2),
        ),
        Case("index counts up by chunk", sse(chunk("a", index=0), chunk("b", index=1), chunk("c", "stop", 2)), "ok"),
        Case("index counts up, and it is cut", sse(chunk("a", index=0), chunk("b", index=1), DONE), "truncated"),
        Case("index is always 1", sse(chunk("a", index=1), chunk(None, "stop", 1), DONE), "ok"),
        Case(
            "the end comes twice", sse(A, chunk(None, "stop"), chunk(None, "stop", usage=usage()), DONE), "ok", (4, 2)
        ),
    ]
    for reason in ("", "null", "NULL", " ", "None"):
        through = [chunk("a", reason), chunk("b", reason)]
        cases.append(Case(f"finish_reason {reason!r} in every chunk, cut", sse(*through), "truncated"))
        cases.append(Case(f"finish_reason {reason!r}, cut with [DONE]", sse(*through, DONE), "truncated"))
        cases.append(Case(f"finish_reason {reason!r} and then stop", sse(*through, STOP, DONE), "ok"))
    gave_up = ("abort", "Abort", "ABORTED", "error", "ERROR", "cancelled", "canceled", "timeout", "timed_out",
               "internal_error", "insufficient_system_resource")  # fmt: skip
    fine = ("length", "tool_calls", "content_filter", "eos_token", "stop_sequence", "end_turn", "max_tokens", "STOP")
    ended = {**dict.fromkeys(gave_up, "stream_error"), **dict.fromkeys(fine, "ok")}
    cases += [Case(f"finish_reason {each}", sse(A, chunk(None, each), DONE), ended[each]) for each in ended]
    cases.append(Case("SGLang's object, abort", sse(A, chunk(None, {"type": "abort", "message": "x"})), "stream_error"))
    cases.append(Case("SGLang's object, length", sse(A, chunk(None, {"type": "length", "length": 5})), "ok"))
    return cases


def _errors() -> list[Case]:
    return [
        Case("event: error with a message", sse(A, 'event: error\ndata: {"message":"out of memory"}'), "stream_error"),
        Case("event: error that is a text", sse(A, "event: error\ndata: out of memory"), "stream_error"),
        Case("event:error after the end", sse(A, STOP, 'event:error\ndata: {"message":"x"}', DONE), "stream_error"),
        Case("another event's name", sse("event: chunk\ndata: " + json.dumps(A), STOP, DONE), "ok"),
        Case("an error beside choices", sse(A, STOP | {"error": {"message": "x"}}), "stream_error"),
        Case("Groq's error", sse(A, STOP | {"x_groq": {"error": "x"}}), "stream_error"),
        Case("no error", sse(A, STOP | {"error": None}, DONE), "ok"),
        Case(
            "an error that is false, empty, 0", sse(A | {"error": False}, B | {"error": ""}, STOP | {"error": 0}), "ok"
        ),
        Case("vLLM's error object", sse(A, {"object": "error", "message": "x", "code": 400}, DONE), "stream_error"),
        Case("a detail", sse(A, {"detail": "x"}, DONE), "stream_error"),
        Case("Metis' error", sse(chunk("\n\n[ERROR] x", "stop") | {"id": "chatcmpl-api-error"}), "stream_error"),
        Case("a text that begins like it", sse(chunk("\n\n[ERROR] x"), STOP, DONE), "ok"),
        Case("something unknown between", sse(A, {"ping": 1}, b"oops", b"[1]", STOP, DONE), "ok"),
        Case("nothing of the API", sse(b"oops"), "stream_error"),
        Case("SSE as application/json", b": hi\n\n" + sse(A, STOP, DONE), "ok"),
        Case("an unstreamed error", b'{"error":{"message":"x"}}', "stream_error"),
        Case("an unstreamed body that is cut", b'{"id":"c1","choices":[{"mess', "truncated"),
        Case("nothing", b"", "truncated"),
    ]


def _usages() -> list[Case]:
    return [
        Case("Groq's usage", sse(A, STOP | {"x_groq": {"id": "r", "usage": usage(5, 7)}}, DONE), "ok", (5, 7)),
        Case("Moonshot's usage in the choice", sse(A, {"choices": [
            {"index": 0, "delta": {}, "finish_reason": "stop", "usage": usage(5, 7)}]}, DONE), "ok", (5, 7)),
        Case("xAI's reasoning beside the completion", sse(A, STOP, {"choices": [], "usage": XAI}), "ok", (4, 103)),
        Case("more reasoning than completion", sse(A, STOP, {"choices": [], "usage": usage(
            4, 9, reasoning_tokens=94)}), "ok", (4, 103)),
        Case("reasoning inside the completion", sse(A, STOP, {"choices": [], "usage": usage(
            4, 103, total_tokens=107, completion_tokens_details={"reasoning_tokens": 94})}), "ok", (4, 103)),
        Case("counts as texts and decimals", sse(A, STOP, {"choices": [], "usage": usage("4", 2.0)}), "ok", (4, 2)),
    ]  # fmt: skip


def _odd() -> list[Case]:
    """One field of another type, or bytes that msgspec refuses."""
    fields: dict[str, dict[str, Any]] = {
        "a numeric id": {"id": 7}, "metrics of a list": {"metrics": [1]}, "an empty usage": {"usage": ""},
        "a response_time with a unit": {"response_time": "12ms"}, "a negative time": {"response_time": -1},
        "timings of a text": {"timings": "fast"}, "a model of a list": {"model": ["m"]},
    }  # fmt: skip
    cases = [Case(name, sse(A | odd, B | odd, STOP | odd, USAGE, DONE), "ok", (4, 2)) for name, odd in fields.items()]
    deltas: dict[str, dict[str, Any]] = {
        "tool_calls of null": {"tool_calls": [None]}, "tool_calls of a text": {"tool_calls": "x"},
        "a function of a text": {"tool_calls": [{"function": "x"}]}, "a numeric refusal": {"refusal": 3},
        "reasoning of a number": {"reasoning": 4, "reasoning_content": "hm"},
    }  # fmt: skip
    for name, odd in deltas.items():
        odd_chunk = {"choices": [{"index": 0, "delta": {"content": "x", **odd}}]}
        cases.append(Case(name, sse(A, odd_chunk, STOP, USAGE, DONE), "ok", (4, 2)))
    indices: list[Any] = [None, "0", 1.0, [0], {}]
    cases += [
        Case(f"index {each!r}", sse(chunk("a", index=each), chunk(None, "stop", each), DONE), "ok") for each in indices
    ]
    raw = {
        "a lone surrogate": b'{"choices":[{"index":0,"delta":{"content":"a\\ud83d"}}]}',
        "half a pair in each chunk": b'{"choices":[{"index":0,"delta":{"content":"\\ude00"}}]}',
        "bytes that aren't UTF-8": b'{"choices":[{"index":0,"delta":{"content":"a\xff\xc3"}}]}',
        "NaN": b'{"x":NaN,"choices":[{"index":0,"delta":{"content":"a"},"y":-Infinity}]}',
        "a huge number": b'{"created":1e9999,"choices":[{"index":0,"delta":{"content":"a"}}]}',
        "a huge integer": b'{"created":' + b"9" * 5000 + b',"choices":[{"index":0,"delta":{"content":"a"}}]}',
        "depths": b'{"x":' + b"[" * 3000 + b"]" * 3000 + b',"choices":[{"index":0,"delta":{"content":"a"}}]}',
        "a raw control character": b'{"choices":[{"index":0,"delta":{"content":"a\tb"}}]}',
        "a key twice": b'{"choices":5,"id":1,"id":"c1","choices":[{"index":0,"delta":{"content":"a"}}]}',
    }
    for name, data in raw.items():
        cases.append(Case(name, sse(A, data, STOP, USAGE, DONE), "ok", (4, 2)))
        end = data.replace(b'"index":0,', b'"index":0,"finish_reason":"stop",')
        cases.append(Case(f"{name} in the end", sse(A, end, DONE), "ok"))
        whole = end.replace(b'"delta"', b'"message"')
        cases.append(Case(f"{name}, unstreamed", whole, "ok"))
    return cases


CASES = [*_ends(), *_errors(), *_usages(), *_odd()]


def driver_error(body: bytes) -> str | None:
    """What the driver says of such a body; None: it has nothing against it. One that is no object is sent as SSE."""
    reading = Reading()
    if is_stream(body) or not body.startswith(b"{"):
        splitter = EventSplitter()
        for data in (*splitter.feed(body), *splitter.finish()):
            reading.event(data)
    else:
        reading.document(body)
    reading.ended()
    return reading.error
