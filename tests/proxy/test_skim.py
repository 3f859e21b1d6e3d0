"""Skimming: what remains of a long JSON text says the same as the text, however it is split, and is short."""

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dyno_proxy.readers import APIS, Content, Skim, read_request, read_retry_after, skim_refusal, skim_request
from dyno_proxy.readers.content import utf8_bytes
from dyno_proxy.readers.skim import KEPT_TEXT_BYTES, MAX_DEPTH, MAX_RESULT_BYTES, MAX_STEPS, wanted

MEGABYTE = 1_000_000


class Part(msgspec.Struct):
    text: Any = None
    number: int | None = None


class Whole(msgspec.Struct):
    a: Any = None
    b: str | None = None
    c: Part | None = None
    d: list[Part] | None = None
    e: float | None = None
    f: list[msgspec.Raw] | None = None


WHOLE = msgspec.json.Decoder(Whole)
LOOKED_AT = wanted(Whole)


def skimmed(skim: Skim, pieces: list[bytes]) -> bytes | None:
    for piece in pieces:
        skim.feed(piece)
    return skim.finish()


def cut(text: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(each for each in cuts if each <= len(text)), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


keys = st.sampled_from(["a", "b", "c", "d", "e", "f", "text", "number", "é", '"', "\\", "\0", ""]) | st.text(max_size=5)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9)
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=20
)
parts = st.fixed_dictionaries({}, optional={"text": scalars, "number": st.integers() | st.none(), "x": values})
wholes = st.fixed_dictionaries(
    {},
    optional={
        "a": scalars,
        "b": st.text(max_size=9) | st.none(),
        "c": parts | st.none(),
        "d": st.lists(parts, max_size=3),
        "e": st.floats(allow_nan=False, allow_infinity=False),
        "x": values,
        "é": values,
        'quo"ted': values,
    },
)
written = st.builds(
    lambda value, indent, ascii_alone: json.dumps(value, indent=indent, ensure_ascii=ascii_alone).encode(),
    wholes,
    st.sampled_from([None, 1]),
    st.booleans(),
)


@given(written, st.lists(st.integers(0, 300)))
@example(b'{"\\u0061":1,"x":"\\\\","b":"\\"]}","d":[]}', [1, 5, 9, 13, 17, 18, 19])
@example(b'{"a":1,"a":[],"c":{"text":{}},"d":[{"text":""},{}]}', [])
def test_what_remains_says_the_same(text: bytes, cuts: list[int]) -> None:
    """It decodes to the same values, wherever the text is cut."""
    remains = skimmed(Skim(LOOKED_AT), cut(text, cuts))
    assert remains is not None
    assert WHOLE.decode(remains) == WHOLE.decode(text)


@given(values.map(lambda value: json.dumps(value).encode()) | st.binary() | written, st.lists(st.integers(0, 300)))
@example(b'{"a":"x', [5, 6])
@example(b'{"x":[[', [5])
@example(b"12", [1])
@example(b'{"a":1}}', [6])
@example(b'{"x":"\\', [5, 6, 7])
def test_any_split_gives_the_same(text: bytes, cuts: list[int]) -> None:
    """The cuts don't matter, even where it is no JSON at all."""
    assert skimmed(Skim(LOOKED_AT), cut(text, cuts)) == skimmed(Skim(LOOKED_AT), [text])


@given(written, st.data())
def test_a_beginning_stays_a_beginning(text: bytes, data: st.DataObject) -> None:
    """A text that breaks off gives a result that breaks off, never a whole one."""
    end = data.draw(st.integers(0, len(text) - 1))
    remains = skimmed(Skim(LOOKED_AT), [text[:end]])
    assert remains is not None
    with pytest.raises(msgspec.DecodeError):
        WHOLE.decode(remains)


@pytest.mark.parametrize(
    "text", [b'{"a":1]', b'{"a" 1}', b"{'a':1}", b'{"a":1,,}', b'{"a":}', b'{"d":[1 2]}', b"{}x", b"x"]
)
def test_what_isnt_json(text: bytes) -> None:
    """It isn't JSON afterwards, either."""
    remains = skimmed(Skim(LOOKED_AT), [text])
    assert remains is not None
    with pytest.raises(msgspec.DecodeError):
        WHOLE.decode(remains)


def test_where_the_members_are() -> None:
    """Of the outermost object, each value's place in the text is known, also where a key stands twice."""
    text = b'{ "a" : "x\\"" , "x":{"a":5}, "c":{"text":1},"b":null,"e":1.5 ,"\\u0061":[1, 2]}'
    for cuts in ([], list(range(len(text)))):
        skim = Skim(LOOKED_AT)
        skimmed(skim, cut(text, cuts))
        assert [(key, text[start:end]) for key, start, end in skim.members] == [
            ("a", b'"x\\""'),
            ("c", b'{"text":1}'),
            ("b", b"null"),
            ("e", b"1.5"),
            ("a", b"[1, 2]"),
        ]
        assert skim.whole


def test_a_long_text_leaves_its_length() -> None:
    """A long text counts as long as it is, an object in a text's place likewise, and nothing of either is kept."""
    long = "é" * 400_000
    body = json.dumps(
        {
            "id": "i" * KEPT_TEXT_BYTES,
            "choices": [
                {"message": {"content": long, "tool_calls": [{"function": {"name": "f", "arguments": {"x": [long]}}}]}},
                {
                    "index": 1,
                    "message": {"content": "short"},
                    "finish_reason": "stop",
                    "logprobs": {"content": [[1]] * 9},
                },
            ],
            "usage": {"prompt_tokens": 3, "completion_tokens": 900_000},
        },
        ensure_ascii=False,
    ).encode()
    read, reader = Content(), APIS["/chat/completions"].reader
    remains = skimmed(reader.skim_body(), [body])
    assert remains is not None
    assert len(remains) < 500
    reader.body(remains, read)
    assert (read.input_tokens, read.output_tokens, read.choices) == (3, 900_000, {0: None, 1: "stop"})
    assert read.response_id is None
    assert 1_600_000 <= read.output_bytes < 1_700_000


@pytest.mark.parametrize(("value", "length"), [({"\0": 7}, 7), ({"\0": "x"}, 9), ([1], 3), (None, 0), ("é", 2)])
def test_the_length_in_a_texts_place(value: object, length: int) -> None:
    """Only what skimming writes is taken for a length."""
    assert utf8_bytes(value) in (length, length + 5)


USAGE = {"completion_tokens": 5, "output_tokens": 5, "prompt_tokens": 4, "input_tokens": 4}
SAYS: dict[str, dict[str, Any]] = {
    "/chat/completions": {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]},
    "/responses": {"status": "completed", "output": [{"type": "message", "content": [{"text": "x"}]}]},
    "/messages": {"type": "message", "content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn"},
    "/embeddings": {"data": [{"embedding": [0.5] * 9}] * 3},
}


@pytest.mark.parametrize("path", SAYS)
@pytest.mark.parametrize("more", [{}, {"error": {"message": "x"}}, {"detail": "x"}])
def test_each_reader_says_the_same_of_what_remains(path: str, more: dict[str, Any]) -> None:
    """A whole body, an error in its dress, and an error alone read alike, skimmed or not."""
    reader = APIS[path].reader
    for body in (
        {"id": "i", "model": "m", "usage": USAGE, **SAYS[path], **more},
        more,
        {"message": "x", "code": 4},
        [1],
        "x",
    ):
        text = json.dumps(body).encode()
        remains = skimmed(reader.skim_body(), [text])
        assert remains is not None
        plain, short = Content(), Content()
        reader.body(text, plain)
        reader.body(remains, short)
        for name in Content.__slots__:
            assert getattr(short, name) == getattr(plain, name), name


HOSTILE = {
    "lists": (b'{"model":[', b"[],", b"1]}"),
    "objects": (b'{"model":[', b"{},", b"1]}"),
    "nested": (b'{"model":[', b"[[[[[]]]]],", b"1]}"),
    "a bracket deep": (b'{"model":', b"[", b"}"),
    "one text": (b'{"model":"', b"x", b'"}'),
    "escapes": (b'{"model":"', b'\\"', b'"}'),
    "one number": (b'{"model":', b"1", b"}"),
    "one key": (b'{"', b"k", b'":1}'),
    "members": (b"{", b'"k":1,', b'"model":1}'),
    "members that count": (b"{", b'"model":1,', b'"model":1}'),
    "texts": (b'{"x":["', b'","', b'"]}'),
    "spaces": (b'{"model":', b" ", b"1}"),
    "choices": (b'{"choices":[', b"{},", b"{}]}"),
    "levels of an object": (b'{"model":', b'{"a":', b"}"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_leaves_little(name: str) -> None:
    """Whatever it is made of, what remains is short, or it is given up after a bounded number of steps."""
    begin, each, end = HOSTILE[name]
    body = begin + each * (4 * MEGABYTE // len(each)) + end
    for make in (skim_request, APIS["/chat/completions"].reader.skim_body, APIS["/responses"].reader.skim_event):
        skim = make()
        remains = skimmed(skim, [body[at : at + 4096] for at in range(0, len(body), 4096)])
        assert skim.given_up == (remains is None)
        assert skim._steps <= MAX_STEPS + 1
        assert remains is None or len(remains) <= MAX_RESULT_BYTES + KEPT_TEXT_BYTES
        if remains is not None:
            assert read_request(remains).parameters()[0] is None


def test_the_deepest() -> None:
    """As deep as msgspec reads it is passed over; deeper it is no JSON."""
    for depth, sound in ((MAX_DEPTH - 1, True), (MAX_DEPTH + 10, False)):
        remains = skimmed(skim_request(), [b'{"x":' + b"[" * depth + b"]" * depth + b',"model":"m"}'])
        assert remains is not None
        assert (read_request(remains).model == "m") == sound


def test_what_a_long_refusal_says() -> None:
    """The wait in a refusal is found however long the rest is."""
    body = b'{"error":"' + b"x" * MEGABYTE + b'","retry_after":"2 min"}'
    remains = skimmed(skim_refusal(), [body])
    assert remains is not None
    assert read_retry_after(remains) == 120.0
