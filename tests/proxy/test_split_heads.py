"""A response's head in any pieces is judged as the whole is: TCP's segments mean nothing."""

from itertools import combinations_with_replacement

import pytest

from dyno_proxy.http.heads import HeadError
from dyno_proxy.upstream.relay import _check_begun_head

SOUND = b"HTTP/1.1 200 OK\r\nServer: a\r\nDate: now\r\nX-Long: b\r\n folded\r\n"


def _judge(head: bytes, ends: tuple[int, ...]) -> None:
    """Look at the head after each read, as the relay does; `ends`: where the reads end."""
    seen = 0
    for end in (*ends, len(head)):
        _check_begun_head(head[:end], seen)
        seen = end


def test_a_sound_head_passes_in_any_three_pieces() -> None:
    """Also where each piece ends behind a CRLF, or between CR and LF."""
    for ends in combinations_with_replacement(range(1, len(SOUND)), 2):
        _judge(SOUND, ends)


@pytest.mark.parametrize("broken", [SOUND.replace(b"\r\nDate", b"\nDate"), SOUND.replace(b"now", b"n\x00w")])
def test_a_broken_head_is_refused_in_any_three_pieces(broken: bytes) -> None:
    """A bare line feed or a NUL is seen wherever the reads end."""
    for ends in combinations_with_replacement(range(1, len(broken)), 2):
        with pytest.raises(HeadError):
            _judge(broken, ends)


def test_a_sound_head_byte_by_byte() -> None:
    """The shortest reads that there are."""
    _judge(SOUND, tuple(range(1, len(SOUND))))
