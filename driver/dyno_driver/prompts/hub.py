"""Prompt sets from the Hugging Face hub, by its library `datasets`, which is kept quiet."""

import os
import queue
import re
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dyno_driver.errors import WrongUseError, one_line

DEFAULT_HUB: Final = "https://huggingface.co"
# The hub's own client would retry for 23 s if the hub is down, and for minutes if the network swallows packets.
PROBE_TIMEOUT_S: Final = 5.0

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")

_QUIET: Final = {
    "DATASETS_VERBOSITY": "critical",
    "HF_HUB_VERBOSITY": "critical",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def library(*, offline: bool) -> Any:
    """The module `datasets`, set to print nothing; with `offline` it doesn't use the network.

    It reads these settings from the environment when it is imported, so the process' first call decides.
    """
    os.environ.update(_QUIET)
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    import datasets

    return datasets


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a set: its split, its subset (configuration), its revision. None: the set's only or newest one."""

    split: str
    subset: str | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A set's records, and the commit that they are of; None if its cached copy doesn't say."""

    rows: Iterator[Mapping[str, Any]]
    revision: str | None


def rows(spec: str, name: str, part: Part, count: int) -> Found:
    """The first `count` records of one split, in order: from the hub, or from its local cache if it can't be reached.

    Raises WrongUseError if neither has the set; the message names it by `spec`, as the user wrote it.
    """
    online = not _told_offline() and _reachable(os.environ.get("HF_ENDPOINT") or DEFAULT_HUB)
    if online:
        print(f"Asking the Hugging Face hub for {name} …", file=sys.stderr, flush=True)
    datasets = library(offline=not online)
    import httpx2  # the hub's client: if a connection breaks off in the middle of a file, its error is raised

    try:
        loaded = datasets.load_dataset(name, part.subset, split=part.split, revision=part.revision)
    except (OSError, ValueError, RuntimeError, httpx2.HTTPError, datasets.exceptions.DatasetsError) as error:
        why = one_line(str(error))
        if not online and isinstance(error, OSError):
            why = "the Hugging Face hub can't be reached, and no copy is cached"
        raise WrongUseError(
            f"--prompts {spec}: {why}; use --prompts science, which ships with Dyno, or --prompts FILE"
        ) from error
    revision = _revision(loaded)
    asked = part.revision
    if not online and asked is not None and not (revision is not None and revision.startswith(asked)):
        raise WrongUseError(
            f"--revision {asked}: the Hugging Face hub can't be reached, and the cached copy of {name} is of "
            f"{revision or 'an unknown revision'}; give --revision as the commit that is cached, or go online"
        )
    return Found(iter(loaded.select(range(min(count, len(loaded))))), revision)


def _revision(loaded: Any) -> str | None:
    """The commit that a loaded set is of. `datasets` names the folder of its cache by it."""
    for file in loaded.cache_files:
        folder = Path(file["filename"]).parent.name
        if _COMMIT.fullmatch(folder):
            return folder
    return None


def _told_offline() -> bool:
    """Whether the environment says offline. The variables are read as huggingface_hub reads them."""
    names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in names)


def _reachable(url: str) -> bool:
    """Whether anything at `url` answered within PROBE_TIMEOUT_S, through the environment's proxies if it has some.

    It runs in a thread, since name resolution has no time limit of its own.
    """
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(_answers(url)), daemon=True).start()
    try:
        return answers.get(timeout=PROBE_TIMEOUT_S)
    except queue.Empty:
        return False


def _answers(url: str) -> bool:
    try:
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - the hub's URL, or the user's HF_ENDPOINT
        with urllib.request.urlopen(request, timeout=PROBE_TIMEOUT_S):  # noqa: S310
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except (OSError, ValueError):
        return False
