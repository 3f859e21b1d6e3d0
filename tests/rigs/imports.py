"""Import files in tests, and read the result."""

from pathlib import Path
from typing import Any

from dyno_analysis.spans import folder as span_folder
from rigs.dyno_command import dyno

SAMPLES = Path(__file__).parents[1] / "analysis" / "imported"


def imported(folder: Path, *files: str | Path, code: int = 0) -> str:
    """Import files (samples, by name) into a spans folder. Returns what the command printed."""
    done = dyno("import", *(SAMPLES / file for file in files), "--spans", folder)
    assert done.returncode == code, done
    assert bool(done.stderr) == bool(code)
    return done.stdout


def rows(folder: Path, columns: str, where: str = "true") -> list[tuple[Any, ...]]:
    """Rows of the view `spans`, in the order of their start."""
    with span_folder.connect(folder) as connection:
        found: list[tuple[Any, ...]] = connection.execute(
            f"FROM spans SELECT {columns} WHERE {where} ORDER BY started_at, span_id"
        ).fetchall()
    return found
