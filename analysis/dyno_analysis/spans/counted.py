"""Files of a folder that count, with what is needed to read their rows. Pure."""

from dataclasses import dataclass, field
from pathlib import Path

from .file_names import SpanFile
from .held_rows import Held


@dataclass(frozen=True)
class Counted:
    """A file that counts; `elsewhere` are those of its rows that don't, since another file counts for them."""

    path: Path
    file: SpanFile
    elsewhere: Held = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Source:
    """A Parquet file or journal to read. Parquet files with the same `columns` can be read together."""

    counted: Counted
    columns: bytes = b""

    @property
    def path(self) -> Path:
        """The file's path."""
        return self.counted.path
