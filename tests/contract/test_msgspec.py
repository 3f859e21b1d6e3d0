"""The words of msgspec's messages that the proxy reads: each is what the installed msgspec says of a real input.

`_explain` in config/load.py makes its own sentence of them, and `_BROKEN_OFF` in readers/content.py tells a body that
breaks off from one that isn't JSON. When a test here fails, a new msgspec says it otherwise.
"""

from typing import Any

import msgspec
import pytest

from dyno_proxy.config.load import _explain
from dyno_proxy.config.schema import Config
from dyno_proxy.readers.content import _BROKEN_OFF, Content, read_strange_body

_URL = "http://127.0.0.1:1"


def said_of(tree: dict[str, Any]) -> str:
    """msgspec's message on a configuration that is wrong."""
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(tree, Config, strict=False)
    return str(caught.value)


@pytest.mark.parametrize(
    ("tree", "message", "explained"),
    [
        ({"proxi": {}}, "Object contains unknown field `proxi`", "unknown key 'proxi'; did you mean 'proxy'?"),
        (
            {"proxy": {"lisen": "x"}},
            "Object contains unknown field `lisen` - at `$.proxy`",
            "unknown key 'proxy.lisen'; did you mean 'listen'?",
        ),
        (
            {"endpoints": {"a": {"url": _URL}, "b": {}}},
            "Object missing required field `url` - at `$.endpoints[...]`",
            "the key 'endpoints.b.url' is missing",
        ),
        (
            {"endpoints": {"a": {"url": _URL}, "b": {"url": _URL, "timeouts": {"firs": 1}}}},
            "Object contains unknown field `firs` - at `$.endpoints[...].timeouts`",
            "unknown key 'endpoints.b.timeouts.firs'",
        ),
        ({"proxy": {"workers": "many"}}, "Expected `int`, got `str` - at `$.proxy.workers`", "must be a whole number"),
        ({"proxy": {"client_idle_s": []}}, "Expected `float`, got `array` - at `$.proxy.client_idle_s`", "a number"),
        ({"proxy": {"listen": 1}}, "Expected `str`, got `int` - at `$.proxy.listen`", "'proxy.listen' must be a text"),
        ({"proxy": 1}, "Expected `object`, got `int` - at `$.proxy`", "'proxy' must be a table"),
        (
            {"endpoints": {"a": {"url": _URL, "propagate": "x"}}},
            "Expected `bool`, got `str` - at `$.endpoints[...].propagate`",
            "'endpoints.a.propagate' must be true or false",
        ),
        (
            {"proxy": {"keys_file": 1}},
            "Expected `str | null`, got `int` - at `$.proxy.keys_file`",
            "'proxy.keys_file' must be a text",
        ),
    ],
)
def test_what_is_said_of_a_wrong_configuration(tree: dict[str, Any], message: str, explained: str) -> None:
    """The message is what `_explain` looks for, word by word, and becomes a sentence of ours."""
    said = said_of(tree)
    assert said == message
    assert explained in _explain(said, tree)


def test_what_is_said_of_a_value_out_of_range() -> None:
    """Any other message passes as it is, with the key before it."""
    assert _explain("Expected `int` >= 1 - at `$.proxy.workers`", {}) == "'proxy.workers': expected `int` >= 1"


@pytest.mark.parametrize("whole", [b'{"a": [10, "b\\u00e9", null, true]}', '{"é": false}'.encode(), b'[{"a": {}}]'])
def test_what_is_said_of_json_that_breaks_off(whole: bytes) -> None:
    """Wherever it does, also within a character or a word; a whole one and a wrong one say something else."""
    decoder = msgspec.json.Decoder(msgspec.Raw)
    for end in range(1, len(whole)):
        with pytest.raises(msgspec.DecodeError) as caught:
            decoder.decode(whole[:end])
        assert str(caught.value) == _BROKEN_OFF, whole[:end]
        content = Content()
        read_strange_body(whole[:end], content)
        assert content.broken_off
    for wrong in (whole, whole + b"}", b"<html>", b"{]", b""):
        content = Content()
        read_strange_body(wrong, content)
        assert not content.broken_off, wrong


@pytest.mark.parametrize("begun", [b'{"a": -', b'{"a": 1.', b'{"a": 1e', b'{"a": 1e-'])
def test_what_is_said_of_json_that_breaks_off_in_a_number(begun: bytes) -> None:
    """Behind a sign, a point or an exponent's letter it is malformed to msgspec: nothing is known of such a body."""
    with pytest.raises(msgspec.DecodeError, match="JSON is malformed"):
        msgspec.json.decode(begun, type=msgspec.Raw)
    content = Content()
    read_strange_body(begun, content)
    assert not content.broken_off
