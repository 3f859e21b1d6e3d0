"""The error for wrong input: a command prints its message as one line."""

from .controls import visible


class InputError(Exception):
    """Wrong input or wrong use: exit code 2. The message, one line, says what is wrong and how to correct it."""

    def __init__(self, message: str) -> None:
        # The system's and DuckDB's messages may have several lines; a command prints one.
        super().__init__(visible(" ".join(message.split())))
