"""Data that tests may use and the project doesn't contain: a folder beside the checkout, or the one in DYNO_SHARED."""

import os
from pathlib import Path
from typing import Final

import pytest

SHARED: Final = Path(os.environ.get("DYNO_SHARED", Path(__file__).resolve().parents[3] / "shared"))
PUBLISHED: Final = SHARED / "data" / "published_metis_vs_sophia_20251201_191558.json"

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no shared data in '{SHARED}' (set DYNO_SHARED)")
