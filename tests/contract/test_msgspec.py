"""The messages of msgspec that the proxy reads: it promises none of them.

When a test here fails, a new msgspec words it otherwise. Then dyno.toml's errors would lose their key, or an answer
that breaks off would be taken for one that isn't JSON.
"""

import re
from typing import Any

import msgspec
import pytest

from dyno_proxy.config.schema import Config
from dyno_proxy.readers import content

WHOLE = b'{"choices": [{"index": 0, "message": {"content": "a\\u00e9\\n"}}], "usage": null, "n": 15, "ok": true}'


def refused(tree: dict[str, Any]) -> str:
    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.convert(tree, Config, strict=False)
    return str(raised.value)


def test_each_beginning_of_json_is_truncated_input() -> None:
    """Wherever a body breaks off within its JSON, the message is the same, and no other fault has it.

    Not so behind a number's sign, point or exponent, which endpoints' answers hardly end in.
    """
    for end in range(1, len(WHOLE)):
        with pytest.raises(msgspec.DecodeError) as raised:
            content._ANYTHING.decode(WHOLE[:end])  # what the reader asks
        assert str(raised.value) == content._BROKEN_OFF, WHOLE[:end]
    for broken in (b"<html>", b'{"a" 1}', b'{"a": 1} x', b"{'a': 1}", b"nul!"):
        with pytest.raises(msgspec.DecodeError) as raised:
            content._ANYTHING.decode(broken)
        assert str(raised.value) != content._BROKEN_OFF, broken


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"colour": 1}, r"Object contains unknown field `colour`"),
        ({"proxy": {"colour": 1}}, r"Object contains unknown field `colour` - at `\$\.proxy`"),
        (
            {"endpoints": {"a": {"url": "u", "x": 1}}},
            r"Object contains unknown field `x` - at `\$\.endpoints\[\.\.\.\]`",
        ),
        ({"endpoints": {"a": {"url": "u", "timeouts": {"x": 1}}}},
         r"Object contains unknown field `x` - at `\$\.endpoints\[\.\.\.\]\.timeouts`"),
        ({"endpoints": {"a": {}}}, r"Object missing required field `url` - at `\$\.endpoints\[\.\.\.\]`"),
        ({"proxy": {"max_requests": "many"}}, r"Expected `int.*`, got `str` - at `\$\.proxy\.max_requests`"),
        ({"proxy": {"max_requests": []}}, r"Expected `int.*`, got `array` - at `\$\.proxy\.max_requests`"),
        ({"proxy": []}, r"Expected `object`, got `array` - at `\$\.proxy`"),
        ({"endpoints": {"a": {"url": 7}}}, r"Expected `str`, got `int` - at `\$\.endpoints\[\.\.\.\]\.url`"),
    ],
)  # fmt: skip
def test_a_configurations_faults_have_these_forms(tree: dict[str, Any], message: str) -> None:
    """`_explain` takes the key's path and the kind of fault from the message."""
    assert re.fullmatch(message, refused(tree)), refused(tree)
