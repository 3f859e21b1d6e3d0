"""How much of a spans folder is kept, as the last `dyno compact --keep` there noted it for other commands."""

import contextlib
import time
from pathlib import Path
from typing import Final

from dyno_analysis.atomic_file import replacing

NOTE: Final = ".dyno.keep"
# A proxy with `[spans] keep` compacts daily. An older note is of one that is gone.
_STALE_S: Final = 3 * 86_400.0


def note(folder: Path, keep: str) -> None:
    """Note the value of --keep. Nothing depends on it, so it may fail."""
    with contextlib.suppress(OSError), replacing(folder / NOTE) as file:
        file.write(keep.encode() + b"\n")


def noted(folder: Path) -> str | None:
    """The value of --keep of the last days; None if there is none."""
    path = folder / NOTE
    try:
        if time.time() - path.stat().st_mtime > _STALE_S:
            return None
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
