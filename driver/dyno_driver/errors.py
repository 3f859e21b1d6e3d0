"""What ends a command: each message is one line for the person at the terminal."""


class WrongUseError(Exception):
    """Input that the caller must mend: exit code 2. The message says what is wrong and the mend."""


class ProxyGoneError(Exception):
    """The proxy itself stopped answering, so no further request can be measured."""


def one_line(text: str, limit: int = 300) -> str:
    """`text` with all white space as single spaces, cut to `limit` characters: other programs' messages run long."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
