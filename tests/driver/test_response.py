import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_driver.response import EventSplitter, Reading, error_text
from rigs.fake_proxy import DONE, chunk


@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=8), min_size=1, max_size=3)
    ),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.booleans(),
    st.data(),
)
def test_any_split_gives_the_same_events(
    events: list[list[str]], line_end: bytes, bom: bool, data: st.DataObject
) -> None:
    """However the bytes are cut into reads, the data of each event comes out once and whole."""
    parts = [b"".join(b"data: " + line.encode() + line_end for line in event) + line_end for event in events]
    # The comment after them shows whether a last CR is a line end or half of a CRLF.
    stream = (b"\xef\xbb\xbf" if bom else b"") + b"".join(parts) + b": end" + line_end + b":"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    splitter = EventSplitter()
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += splitter.feed(stream[start:end])
    assert found == ["\n".join(event).encode() for event in events]


@given(st.binary(max_size=200))
def test_junk_is_an_error_of_one_line(junk: bytes) -> None:
    """Reading an SSE event never raises and never gives an error of several lines, whatever the event contains."""
    reading = Reading()
    reading.event(junk)
    reading.ended()
    assert reading.error is None or "\n" not in reading.error


def read(stream: bytes) -> Reading:
    reading = Reading()
    for event in EventSplitter().feed(stream):
        reading.event(event)
    reading.ended()
    return reading


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_under_either_name(name: str) -> None:
    """Reasoning is kept apart from the answer, whichever of its two names the endpoint uses."""
    reading = read(chunk({name: "hm, "}) + chunk({name: "so"}) + chunk({"content": "42"}) + chunk({}, "stop") + DONE)
    assert (reading.reasoning, reading.text, reading.finish_reason, reading.error) == ("hm, so", "42", "stop", None)


def test_both_names_at_once_are_one_text() -> None:
    """If a server sends the same reasoning under both names, it counts once."""
    reading = read(chunk({"reasoning": "hm", "reasoning_content": "hm"}) + chunk({"content": "42"}, "stop") + DONE)
    assert reading.reasoning == "hm"


@pytest.mark.parametrize(
    ("delta", "output"),
    [
        ({"role": "assistant"}, False),
        ({"role": "assistant", "content": ""}, False),
        ({"content": "a"}, True),
        ({"content": [{"type": "text", "text": "a"}]}, True),
        ({"reasoning": "a"}, True),
        ({"refusal": "no"}, True),
        ({"tool_calls": [{"index": 0, "id": "c"}]}, False),
        ({"tool_calls": [{"index": 0, "function": {"name": "f"}}]}, True),
        ({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}, True),
    ],
)
def test_what_counts_as_output(delta: dict[str, Any], output: bool) -> None:
    """The time to first token ends with the first SSE event that has content, reasoning or a tool call, not a role."""
    [event] = EventSplitter().feed(chunk(delta))
    assert Reading().event(event) is output


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (chunk({"content": "a"}, error={"message": "out of\nmemory", "code": 500}), "out of memory"),
        (chunk({"content": "a"}) + b'data: {"object":"error","message":"boom","code":400}\n\n' + DONE, "boom"),
        (b'data: {"error":"queue full","error_code":"x"}\n\n' + DONE, "queue full"),
        (chunk({"content": "\n\n[ERROR] no worker"}, "stop", id="chatcmpl-api-error") + DONE, "[ERROR] no worker"),
        (chunk({"content": "\n\n[ERROR] no worker"}, "stop") + DONE, "[ERROR] no worker"),
        (chunk({"content": "a"}) + DONE, "broke off: no finish_reason"),
        (b"", "broke off: no finish_reason"),
        (b"data: {nope\n\n", "not JSON: {nope"),
        (b"data: [1]\n\n", "not an object: [1]"),
        (b"data: " + b"[" * 100_000 + b"\n\n", "not JSON: " + "[" * 100),
    ],
)
def test_errors_inside_a_200(stream: bytes, error: str) -> None:
    """An error with status 200 is recognised in every vendor's shape; a stream without its end is an error too."""
    assert read(stream).error == error


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"error": {"message": "m", "code": 1}}, "m"),
        ({"error": {"code": 1}}, "{'code': 1}"),
        (
            {"error": "Rate limit exceeded", "message": "slow down", "retry_after": "1 second"},
            "Rate limit exceeded: slow down",
        ),
        ({"detail": "not found"}, "not found"),
        ("plain", "plain"),
        ({}, "an error without a text"),
    ],
)
def test_error_shapes(document: Any, text: str) -> None:
    """The message is found in each of the shapes that endpoints and gateways use."""
    assert error_text(document) == text


def test_a_whole_body() -> None:
    """An unstreamed answer is read by the same rules."""
    message = {"role": "assistant", "content": "Denver Broncos", "reasoning": "football"}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "length"}]}
    reading = Reading()
    assert reading.document(json.dumps(body).encode())
    reading.ended()
    assert (reading.text, reading.reasoning, reading.finish_reason, reading.error) == (
        "Denver Broncos",
        "football",
        "length",
        None,
    )
