"""Workloads: files that set options. What is given on the command line overrides them.

name or FILE.toml ──▶ keys ──▶ each is checked as its flag would be ──▶ the parser's defaults
"""

import argparse
import difflib
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

from dyno_driver.errors import WrongUseError

DEFAULT_WORKLOAD: Final = "single"
_ABOUT: Final = "about"
_SUFFIX: Final = ".toml"
# Either of these says how much load there is. A user who gives one means it in place of the file's loads, and of how
# endpoints take turns under them.
_LOADS: Final = ("concurrency", "rate")
_OF_LOADS: Final = (*_LOADS, "interleave")


def names() -> list[str]:
    """The workloads that ship with Dyno."""
    return sorted(path.name.removesuffix(_SUFFIX) for path in _shipped().iterdir() if path.name.endswith(_SUFFIX))


def workload_name(spec: str) -> str:
    """The name that a run bears: of one that ships with Dyno its own, of a file the file's."""
    return Path(spec).stem if spec.endswith(_SUFFIX) else spec


def defaults(spec: str, given: argparse.Namespace, settings: Mapping[str, argparse.Action]) -> dict[str, Any]:
    """What the workload sets, by the parser's names. `given` is the command line; `settings` are the flags that a
    workload may set, by their long names without dashes.

    Raises WrongUseError for a key that isn't one of them, and for a value that the flag wouldn't take.
    """
    keys = _keys(spec)
    about = keys.pop(_ABOUT, "")
    if not isinstance(about, str):
        raise WrongUseError(f"--workload {spec}: 'about' must be a text")
    found = {}
    told = any(getattr(given, settings[load].dest) is not None for load in _LOADS)
    told = told or getattr(given, settings["arrivals"].dest).series is not None  # a file's times are a load too
    for key, value in keys.items():
        if key not in settings:
            near = difflib.get_close_matches(key, settings, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise WrongUseError(f"--workload {spec}: unknown key '{key}'; {hint}keys are {', '.join(sorted(settings))}")
        action = settings[key]
        if not (told and key in _OF_LOADS):
            found[action.dest] = _value(spec, key, value, action)
    return found


def _keys(spec: str) -> dict[str, Any]:
    """The keys of a workload that ships with Dyno, or of a file. Raises WrongUseError."""
    if not spec.endswith(_SUFFIX):
        if spec not in names():
            near = difflib.get_close_matches(spec, names(), n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            known = ", ".join(names())
            raise WrongUseError(f"--workload: no workload '{spec}'; {hint}there are {known}, or a FILE.toml")
        return tomllib.loads(_shipped().joinpath(spec + _SUFFIX).read_text(encoding="utf-8"))
    try:
        with Path(spec).expanduser().open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise WrongUseError(f"--workload {spec}: {error.strerror or error}; give the path of a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongUseError(f"--workload {spec}: not TOML: {error}") from error


def _value(spec: str, key: str, value: Any, action: argparse.Action) -> Any:
    """The value, read as the flag's text would be."""
    if isinstance(action, argparse.BooleanOptionalAction):
        if not isinstance(value, bool):
            raise WrongUseError(f"--workload {spec}: '{key}' must be true or false")
        return value
    text = ",".join(map(_text, value)) if isinstance(value, list) else _text(value)
    try:
        read = action.type(text) if callable(action.type) else text
    except (argparse.ArgumentTypeError, ValueError) as error:
        raise WrongUseError(f"--workload {spec}: '{key}': {error}") from error
    if action.choices is not None and read not in action.choices:
        raise WrongUseError(f"--workload {spec}: '{key}': '{text}' must be one of {', '.join(action.choices)}")
    return read


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shipped() -> Any:
    return resources.files("dyno_driver.workloads")
