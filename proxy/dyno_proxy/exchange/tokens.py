"""How many tokens an exchange's output has, and how many of them came first. Pure."""

from collections.abc import Sequence
from typing import Final

from dyno_proxy.readers import Content

SERVER: Final = "server"
CHUNKS: Final = "chunks"


def output_tokens(content: Content, chunks: int | None) -> tuple[int | None, str | None]:
    """The tokens of the output, and who counted them. `chunks`: of a stream that was read; None for anything else.

    A stream without output has 0. An answer without output of its own, such as an embedding, has None.
    """
    if content.output_tokens is not None:
        return content.output_tokens, SERVER
    if chunks is not None:
        return chunks, CHUNKS
    return None, None if content.input_tokens is None else SERVER


def first_read_tokens(content: Content, offsets_us: Sequence[int]) -> int:
    """The tokens that came with the first read that had output, which TPOT takes off. There is a chunk at least.

    With continuous usage the server tells them. Otherwise they are as many as the chunks in that read.
    """
    if content.first_read_tokens:
        return content.first_read_tokens
    chunks = 1
    while chunks < len(offsets_us) and offsets_us[chunks] == offsets_us[0]:
        chunks += 1
    return chunks
