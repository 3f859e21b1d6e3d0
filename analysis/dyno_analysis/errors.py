"""What a command refuses: wrong input, said in one line."""


class InputError(Exception):
    """Wrong input or wrong use; the message names what is wrong and how to mend it, on one line."""

    def __init__(self, message: str) -> None:
        # Messages of the system and of DuckDB may span lines; a command's complaint is one line.
        super().__init__(" ".join(message.split()))
