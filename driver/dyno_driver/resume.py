"""Finds the run that `--resume` names, and refuses one that can't go on as it began."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from .client import Endpoint
from .errors import WrongUseError
from .load.schedule import Phase
from .prompts.prompt_set import PromptSet
from .recording import JOURNAL, read_record
from .run_json import SCHEMA, RunJson

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Earlier:
    """A run that was begun. `arguments`: those after the command's name."""

    folder: Path
    record: RunJson
    arguments: list[str]


def find_earlier(name: str, folders: Sequence[Path], command: Sequence[str]) -> Earlier:
    """The run of that id, or with the only id that begins so, or the latest one.

    `folders`: spans folders, the likeliest first. `command`: which one resumes it. Raises WrongUseError.
    """
    flag = f"--resume {name}"
    for spans in folders:
        found = sorted(path.parent for path in (spans / "runs").glob("[!.]*/run.json"))
        matches = found[-1:] if name == "latest" else [path for path in found if path.name == name]
        matches = matches or [path for path in found if name and path.name.startswith(name)]
        if len(matches) > 1:
            raise WrongUseError(
                f"{flag}: {len(matches)} runs begin so; write more of the id, such as {matches[-1].name}"
            )
        if matches:
            return _earlier(flag, matches[0], command)
    where = " and ".join(f"{spans}/runs" for spans in folders)
    raise WrongUseError(f"{flag}: no such run in {where}; give its folder's parent with --spans DIR, or another id")


def _earlier(flag: str, folder: Path, command: Sequence[str]) -> Earlier:
    record = read_record(folder)
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise WrongUseError(f"{flag}: {folder}/run.json isn't a run's record of this Dyno; name another run")
    words = record.get("command")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words) or "schedule" not in record:
        raise WrongUseError(f"{flag}: run {folder.name} is an import, or of an older Dyno, which kept no schedule")
    if words[: len(command)] != list(command):
        raise WrongUseError(f"{flag}: run {folder.name} was begun by '{' '.join(words[:2])}'; resume it with that")
    if record.get("finished_at") and not record.get("interrupted") and not sum(record.get("not_sent", {}).values()):
        raise WrongUseError(f"{flag}: run {folder.name} is finished: every request has its answer")
    if not (folder / JOURNAL).is_file():
        raise WrongUseError(f"{flag}: {folder / JOURNAL} is missing, which holds the answers so far; name another run")
    return Earlier(folder, cast(RunJson, record), words[len(command) :])


def schedule_digest(phases: Sequence[Phase]) -> str:
    """A checksum of which requests are sent in which order, and when they are due."""
    return hashlib.sha256(repr(list(phases)).encode()).hexdigest()


def prompts_digest(prompt_set: PromptSet) -> str:
    """A checksum of all that is known of the prompts."""
    return hashlib.sha256(repr(prompt_set.prompts).encode("utf-8", "surrogatepass")).hexdigest()


def check_same(earlier: Earlier, record: RunJson, endpoints: Sequence[Endpoint]) -> None:
    """Refuse a run that would go on otherwise than it began. `record`: as the run would be recorded if it began now.

    Raises WrongUseError.
    """
    flag, was = f"--resume {earlier.folder.name}", earlier.record
    if record["prompt_set"]["sha256"] != was["prompt_set"].get("sha256"):
        raise WrongUseError(
            f"{flag}: the prompts of {was['prompt_set']['name']} aren't those it began with; restore them"
        )
    if list(record["endpoints"]) != list(was["endpoints"]):
        raise WrongUseError(
            f"{flag}: it began with {', '.join(was['endpoints'])}, and now asks {', '.join(record['endpoints'])}"
        )
    for endpoint in endpoints:
        before = was["endpoints"][endpoint.name]
        if before["model"] != endpoint.model or _place(before["url"]) != _place(endpoint.url):
            raise WrongUseError(
                f"{flag}: endpoint '{endpoint.name}' was {before['model']} at {before['url']}, and is now "
                f"{endpoint.model} at {endpoint.url}; restore it in dyno.toml, or begin a new run"
            )
    if differing := _differing(record["parameters"], was["parameters"]):
        raise WrongUseError(f"{flag}: {', '.join(differing)} isn't as it began; leave out the options beside --resume")
    if record["schedule"] != was["schedule"]:
        raise WrongUseError(
            f"{flag}: the schedule isn't the one it began with; leave out the options beside --resume, and use the "
            f"same version of Dyno ({was['versions']['dyno']})"
        )


def _differing(now: Mapping[str, Any], was: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in {*now, *was} if now.get(name) != was.get(name))


def _place(url: str) -> tuple[str, str]:
    """The part of a URL that stays. On this machine a server that is started again may have another port."""
    parts = urlsplit(url)
    return (
        ("this machine", parts.path)
        if parts.hostname in _LOOPBACK
        else (f"{parts.scheme}://{parts.netloc}", parts.path)
    )
