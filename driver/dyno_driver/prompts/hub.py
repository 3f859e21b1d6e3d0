"""Prompt sets from the Hugging Face hub, by its library `datasets`, which is kept quiet."""

import os
import queue
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any, Final

from dyno_driver.errors import WrongUseError, one_line

DEFAULT_HUB: Final = "https://huggingface.co"
# The hub's own client would retry for 23 s if the hub is down, and for minutes if the network swallows packets.
PROBE_TIMEOUT_S: Final = 5.0

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


def rows(spec: str, name: str, split: str, count: int) -> Iterator[Mapping[str, Any]]:
    """The first `count` records of one split, in order: from the hub, or from its local cache if it can't be reached.

    Raises WrongUseError if neither has the set; the message names it by `spec`, as the user wrote it.
    """
    online = not _told_offline() and _reachable(os.environ.get("HF_ENDPOINT") or DEFAULT_HUB)
    if online:
        print(f"Asking the Hugging Face hub for {name} …", file=sys.stderr, flush=True)
    datasets = library(offline=not online)
    import httpx2  # the hub's client: if a connection breaks off in the middle of a file, its error is raised

    try:
        loaded = datasets.load_dataset(name, split=split)
    except (OSError, ValueError, RuntimeError, httpx2.HTTPError, datasets.exceptions.DatasetsError) as error:
        why = one_line(str(error))
        if not online and isinstance(error, OSError):
            why = "the Hugging Face hub can't be reached, and no copy is cached"
        raise WrongUseError(
            f"--prompts {spec}: {why}; use --prompts science, which ships with Dyno, or --prompts FILE"
        ) from error
    yield from loaded.select(range(min(count, len(loaded))))


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
