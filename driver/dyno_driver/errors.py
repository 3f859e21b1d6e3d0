"""The errors that end a command. Each message is one line for the user at the terminal."""


class WrongUseError(Exception):
    """The user's input is wrong: exit code 2. The message says what is wrong and how to correct it."""


class ProxyGoneError(Exception):
    """The proxy itself stopped answering, so no further request can be measured."""


def one_line(text: str, limit: int = 300) -> str:
    """`text` with each run of white space as one space, without control characters, cut to `limit` characters.

    For other programs' messages, which may be long and have several lines, and sequences that a terminal would obey.
    """
    line = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in " ".join(text.split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"
