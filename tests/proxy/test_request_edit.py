"""A request with one change: what is replaced, which bytes stay, and which requests aren't changed."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_proxy.readers import skim_request
from dyno_proxy.rewrite.request_body import MAX_BRACKETS, MAX_MEMBERS, asking_usage, with_model

MODELS: list[tuple[bytes, bytes]] = [
    # (body, the same asking for "new")
    (b'{"model":"m"}', b'{"model":"new"}'),
    (b' \n{ "model" :\t"m" , "n":1}\r\n', b' \n{ "model" :\t"new" , "n":1}\r\n'),
    (b'{"messages":[{"model":"m"}],"model":"m"}', b'{"messages":[{"model":"m"}],"model":"new"}'),
    (b'{"metadata":{"model":"m"},"model":"m"}', b'{"metadata":{"model":"m"},"model":"new"}'),
    (b'{"x":"\\"model\\":\\"m\\"","model":"m"}', b'{"x":"\\"model\\":\\"m\\"","model":"new"}'),
    (b'{"x":"}],{\\\\","model":"m"}', b'{"x":"}],{\\\\","model":"new"}'),
    (b'{"mod\\u0065l":"m"}', b'{"mod\\u0065l":"new"}'),
    (b'{"\\u006dodel":"m","n":1}', b'{"\\u006dodel":"new","n":1}'),
    (b'{"model":"\\ud83d\\ude00\\"\\\\"}', b'{"model":"new"}'),
    (b'{"model":"a","model":"b"}', b'{"model":"new","model":"new"}'),
    (b'{"n":12,"model":"m","n":1}', b'{"n":12,"model":"new","n":1}'),
    (b'{"n":1,"model":"m","n":12}', b'{"n":1,"model":"new","n":12}'),
    (b'{"a":[1,{"b":"]"}],"model":"m","a":null}', b'{"a":[1,{"b":"]"}],"model":"new","a":null}'),
    (b'{"a":"model","b":"model","model":"model"}', b'{"a":"model","b":"model","model":"new"}'),
    (b'{"model ":"m","Model":"m","model":""}', b'{"model ":"m","Model":"m","model":"new"}'),
    ('{"é":"\u2028\U0001f600","model":"ü"}'.encode(), '{"é":"\u2028\U0001f600","model":"new"}'.encode()),
    (b'{"x":"\xff\xfe","model":"m"}', b'{"x":"\xff\xfe","model":"new"}'),
    (b'{"seed":1' + b"0" * 400 + b',"model":"m","t":-1E+3}', b'{"seed":1' + b"0" * 400 + b',"model":"new","t":-1E+3}'),
]  # fmt: skip

NO_MODEL = [
    b"",
    b"null",
    b'"model"',
    b'["model","m"]',
    b"{}",
    b'{"n":1}',
    b'{"model":null}',
    b'{"model":5}',
    b'{"model":["m"]}',
    b'{"model":"m","model":5}',
    b'{"messages":[{"model":"m"}]}',
    b'{"model":"m"',
    b'{"model":"m"}}',
    b'{"model":"m",}',
    b"{'model':'m'}",
    b'{"model":"m"}{"model":"m"}',
    b'{"a":[1,2},"model":"m"}',
    b'{"model":"m\n"}',
    b'\xef\xbb\xbf{"model":"m"}',
    '{"model":"m"}'.encode("utf-16"),
    b'{"\xff":1,"model":"m"}',
    b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b',"model":"m"}',
    b"--boundary\r\nContent-Disposition: form-data; name=model\r\n\r\nm",
    b"\x1f\x8b\x08\x00",
]


@pytest.mark.parametrize(("body", "expected"), MODELS)
def test_model_is_replaced_and_nothing_else(body: bytes, expected: bytes) -> None:
    """`model` at the top level has the new value. Whitespace, order, escapes and everything nested stay."""
    assert with_model(body, "new") == expected


@pytest.mark.parametrize("body", NO_MODEL)
def test_no_object_with_a_model(body: bytes) -> None:
    """A body that isn't a JSON object with a text as its model can't be sent to another model."""
    assert with_model(body, "new") is None


@pytest.mark.parametrize("model", ["", 'a"b\\c', "gpt-oss-120b", "模型", "\x00\n", "\U0001f600"])
def test_any_name_of_a_model(model: str) -> None:
    """The new name is written as JSON, whatever is in it."""
    edited = with_model(b'{"model":"m","n":1}', model)
    assert edited is not None
    assert json.loads(edited) == {"model": model, "n": 1}


USAGE: list[tuple[bytes, bytes | None]] = [
    (b'{"stream":true}', b'{"stream":true,"stream_options":{"include_usage":true}}'),
    (b'{ "stream" : true\n}\n', b'{ "stream" : true,"stream_options":{"include_usage":true}\n}\n'),
    (b'{"stream":true,"a":[{}]}', b'{"stream":true,"a":[{}],"stream_options":{"include_usage":true}}'),
    (b'{"stream_options":null,"stream":true}', b'{"stream_options":{"include_usage":true},"stream":true}'),
    (b'{"stream":true,"stream_options":{}}', b'{"stream":true,"stream_options":{"include_usage":true}}'),
    (b'{"stream":true,"stream_options":{ }}', b'{"stream":true,"stream_options":{"include_usage":true }}'),
    (b'{"stream":true,"stream_options":{"x":[1]}}', b'{"stream":true,"stream_options":{"include_usage":true,"x":[1]}}'),
    (b'{"stream":true,"stream_options":{"include_usage":false,"x":1}}',
     b'{"stream":true,"stream_options":{"include_usage":true,"x":1}}'),
    (b'{"stream":true,"stream_options":{"include_usage": null}}',
     b'{"stream":true,"stream_options":{"include_usage": true}}'),
    (b'{"str\\u0065am":true}', b'{"str\\u0065am":true,"stream_options":{"include_usage":true}}'),
    (b'{"stream":false,"stream":true}', b'{"stream":false,"stream":true,"stream_options":{"include_usage":true}}'),
    (b'{"stream":true,"stream_options":{"include_usage":true},"stream_options":null}',
     b'{"stream":true,"stream_options":{"include_usage":true},"stream_options":{"include_usage":true}}'),
    (b'{"x":{"stream_options":{"include_usage":true}},"stream":true}',
     b'{"x":{"stream_options":{"include_usage":true}},"stream":true,"stream_options":{"include_usage":true}}'),
    (b'{"stream":true,"stream_options":{"include_usage":true}}', None),
    (b'{"stream":true,"stream_options":{"x":1,"include_us\\u0061ge":true}}', None),
    (b'{"stream":true,"stream_options":{"include_usage":1}}', None),
    (b'{"stream":true,"stream_options":[]}', None),
    (b'{"stream":true,"stream":false}', None),
    (b'{"stream":"true"}', None),
    (b'{"stream":1}', None),
    (b'{"stream":null}', None),
    (b'{"stream":false,"stream_options":{}}', None),
    (b'{"messages":[{"stream":true}]}', None),
    (b'{"model":"m"}', None),
    (b"{}", None),
    (b"[true]", None),
    (b'{"stream":true', None),
    (b"", None),
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), USAGE)
def test_usage_is_asked_for(body: bytes, expected: bytes | None) -> None:
    """A request for a stream without usage asks for it after the change. Every other body isn't changed."""
    assert asking_usage(body) == expected


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
spaces = st.sampled_from([b"", b"", b" ", b"\n\t", b"\r\n"])


def written(value: Any) -> st.SearchStrategy[bytes]:
    """A value, written in one of the ways that JSON allows."""
    return st.sampled_from(
        [
            json.dumps(value).encode(),
            json.dumps(value, ensure_ascii=False).encode(),
            json.dumps(value, ensure_ascii=False, indent=1, separators=(" ,", "\t: ")).encode(),
        ]
    )


def member(keys: st.SearchStrategy[bytes], of: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[bytes]]:
    """[all before the value, the value, all after it], for a member of an object."""
    return st.tuples(spaces, keys, spaces, spaces, of, spaces).map(
        lambda drawn: [drawn[0] + drawn[1] + drawn[2] + b":" + drawn[3], drawn[4], drawn[5]]
    )


model_keys = st.sampled_from([b'"model"', b'"mod\\u0065l"', b'"\\u006Dodel"'])
other_keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=4).flatmap(written) | st.sampled_from(
    [b'"Model"', b'"model "', b'"\\"model\\":"', b'"a"', b'"a"']
)
models = member(model_keys, st.text(max_size=5).flatmap(written))
others = st.lists(member(other_keys, values.flatmap(written)), max_size=4)


@given(others, models, others, st.none() | models, st.text(max_size=8), spaces, spaces)
def test_any_object_changes_in_its_model_alone(
    before: list[list[bytes]],
    first: list[bytes],
    after: list[list[bytes]],
    again: list[bytes] | None,
    model: str,
    lead: bytes,
    trail: bytes,
) -> None:
    """However an object is written, its bytes before and after the model's value stay, and the result parses
    correctly."""

    def body(new: bytes | None) -> bytes:
        named = [first, *([again] if again else [])]
        chosen = [[head, value if new is None else new, tail] for head, value, tail in named]
        members = [*before, chosen[0], *after, *chosen[1:]]
        return lead + b"{" + b",".join(b"".join(parts) for parts in members) + b"}" + trail

    edited = with_model(body(None), model)
    assert edited == body(json.dumps(model, ensure_ascii=False).encode())
    assert json.loads(edited) == json.loads(body(None)) | {"model": model}


streams = st.sampled_from([True, True, False, None, 1])
usage_options = (
    st.none() | values | st.dictionaries(st.sampled_from(["include_usage", "x"]), st.booleans() | st.none() | values)
)


@given(
    st.fixed_dictionaries({}, optional={"stream": streams, "stream_options": usage_options, "model": values}).flatmap(
        lambda asked: st.tuples(st.just(asked), written(asked))
    )
)
def test_any_object_changes_in_its_usage_alone(drawn: tuple[dict[str, Any], bytes]) -> None:
    """After the change the body parses as before, with the option added. Changing it twice changes nothing more."""
    request, body = drawn
    options = request.get("stream_options")
    options = {} if options is None else options
    asks = isinstance(options, dict) and any(options.get("include_usage") is answer for answer in (None, False))
    edited = asking_usage(body)
    if request.get("stream") is not True or not asks:
        assert edited is None
        return
    assert edited is not None
    assert json.loads(edited) == request | {"stream_options": options | {"include_usage": True}}
    assert asking_usage(edited) is None


@given(st.binary(max_size=200))
def test_junk_is_left_alone(junk: bytes) -> None:
    """No bytes raise an exception, and a body that isn't JSON has no edited form."""
    for edited in (with_model(junk, "new"), asking_usage(junk)):
        assert edited is None or json.loads(edited)


def test_large_bodies_take_little_time() -> None:
    """The event loop waits for the edit, so 10 kB take some 30 µs of CPU, and 8 MB some ms, even if all are
    brackets."""
    chat = json.dumps({"messages": [{"role": "user", "content": 'Say "é"\n' * 100}] * 8, "model": "m", "stream": True})
    body = chat.encode()
    assert 9_000 < len(body) < 15_000
    assert best_s(lambda: with_model(body, "new"), 50) < 200e-6
    assert best_s(lambda: asking_usage(body), 50) < 200e-6
    for filling in (
        b'"' + b"A" * 8_000_000 + b'"',
        b'"' + b"\\n" * 4_000_000 + b'"',
        b"[" + b"[]," * 2_700_000 + b"1]",
    ):
        huge = b'{"messages":' + filling + b',"model":"m"}'
        begin_s = time.thread_time()
        edited = with_model(huge, "new")
        assert time.thread_time() - begin_s < 0.5
        assert edited is not None
        assert edited == huge[:-3] + b'new"}'


def test_a_key_that_comes_again_costs_no_more_than_its_limit() -> None:
    """Only the value of a repeated key has to be scanned.

    If it has very many brackets, it isn't scanned, and the body isn't changed.
    """
    few = b'{"a":' + b"[" * 100 + b"]" * 100 + b',"model":"m","a":1}'
    assert with_model(few, "new") == few.replace(b'"m"', b'"new"')
    many = b'{"a":[' + b"[]," * MAX_BRACKETS + b'1],"model":"m","a":1}'
    assert with_model(many, "new") is None


def test_an_object_of_very_many_members_is_left_alone() -> None:
    """A request with thousands of keys must not block the event loop for seconds. No real request has so many."""
    few = b"{" + b'"model":"m",' * (MAX_MEMBERS // 2) + b'"a":1}'
    assert with_model(few, "new") == few.replace(b'"m"', b'"new"')
    assert with_model(b"{" + b'"model":"m",' * MAX_MEMBERS + b'"a":1}', "new") is None
    assert asking_usage(b"{" + b'"a":1,' * MAX_MEMBERS + b'"stream":true}') is None
    huge = b"{" + b",".join(b'"%d":1' % number for number in range(600_000)) + b',"model":"m"}'
    assert best_s(lambda: with_model(huge, "new"), 3) < 1.5
    assert with_model(huge, "new") is None


def best_s(call: Callable[[], object], times: int) -> float:
    taken_s = []
    for _ in range(times):
        begin_s = time.thread_time()
        call()
        taken_s.append(time.thread_time() - begin_s)
    return min(taken_s)


def known_of(body: bytes) -> list[tuple[str, int, int]]:
    """The members that matter, as skimming finds them in a long body."""
    skim = skim_request()
    skim.feed(body)
    return skim.members if skim.whole else []


@pytest.mark.parametrize(("body", "changed"), MODELS)
def test_a_model_whose_place_is_known(body: bytes, changed: bytes) -> None:
    """A long body that was skimmed gets the same new model as a short one, and keeps its other bytes."""
    assert with_model(body, "new", known_of(body)) == changed


PLACES: list[tuple[bytes, bytes | None]] = [
    (b'{"stream":true,"k":1}', b'{"stream":true,"stream_options":{"include_usage":true},"k":1}'),
    (b'{"k":1, "stream" : true }', b'{"k":1, "stream" : true,"stream_options":{"include_usage":true} }'),
    (b'{"stream":true,"stream_options":null}', b'{"stream":true,"stream_options":{"include_usage":true}}'),
    (b'{"stream_options":{ },"stream":true}', b'{"stream_options":{"include_usage":true },"stream":true}'),
    (b'{"stream":true,"stream_options":{"include_usage":true}}', None),
    (b'{"stream":true,"stream_options":{"x":"' + b"y" * 40_000 + b'"}}', None),
    (b'{"stream":false}', None),
    (b'{"stream":true', None),
    (b"[]", None),
]


@pytest.mark.parametrize(("body", "changed"), PLACES)
def test_asking_where_the_places_are_known(body: bytes, changed: bytes | None) -> None:
    """A long body that was skimmed asks for its usage in a place where it may, or isn't changed."""
    assert asking_usage(body, known_of(body)) == changed
    if changed is not None:
        assert json.loads(changed)["stream_options"] == {"include_usage": True}
