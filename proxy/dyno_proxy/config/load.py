"""Makes a checked Config of dyno.toml, environment variables and flags."""

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from .check import check_collector, check_endpoint, check_not_own, check_otlp, check_proxy, check_spans
from .schema import (
    CollectorConfig,
    Config,
    ConfigError,
    EndpointConfig,
    MirrorConfig,
    OtlpConfig,
    PriceConfig,
    ProxyConfig,
    SpansConfig,
    TimeoutsConfig,
    TokenConfig,
)

_ENVIRONMENT_PREFIX: Final = "DYNO_"
_IN_TOML: Final = {
    "float": "a number",
    "int": "a whole number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}
_NESTED: Final[dict[str, type[msgspec.Struct]]] = {  # the tables inside an endpoint's
    "token": TokenConfig,
    "price": PriceConfig,
    "timeouts": TimeoutsConfig,
    "mirror": MirrorConfig,
}
_SECTIONS: Final[dict[str, type[msgspec.Struct]]] = {
    "proxy": ProxyConfig,
    "spans": SpansConfig,
    "collector": CollectorConfig,
    "otlp": OtlpConfig,
}


_LISTS: Final = frozenset(
    (section, field.name)
    for section, struct in _SECTIONS.items()
    for field in msgspec.structs.fields(struct)
    if field.type == tuple[str, ...]
)


def load_config(
    path: Path | None, environment: Mapping[str, str], flags: Mapping[str, str], *, need_endpoints: bool = True
) -> Config:
    """The file; variables override it, and flags (keys of `[proxy]`, or `section.key`) override both.

    `flags`: key -> value, as text. A key is one of `[proxy]`, or `section.key`. `need_endpoints`: at least one endpoint
    must be configured. Raises ConfigError, whose message names the file, variable or command line that is wrong.
    """
    where = str(path) if path is not None else "the environment"
    tree: dict[str, Any] = {} if path is None else _read(path)
    origins = _override(tree, environment)
    for flag, value in flags.items():
        section, _, key = flag.rpartition(".")
        _table(tree, section or "proxy")[key] = value
        origins[f"{section or 'proxy'}.{key}"] = "the command line"
    try:
        return _checked(where, tree, need_endpoints)
    except ConfigError as error:
        for key, origin in origins.items():
            if found := re.match(rf"{re.escape(where)}(?=: '?{re.escape(key)}(?!\w))", str(error)):
                raise ConfigError(f"{origin}{str(error)[found.end() :]}") from error
        raise


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: {(error.strerror or str(error)).lower()}; name the file with --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} isn't TOML: {error}") from error


def _checked(where: str, tree: dict[str, Any], need_endpoints: bool) -> Config:
    try:
        config = msgspec.convert(tree, Config, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_explain(str(error), tree)}") from error
    check_proxy(where, config.proxy)
    if need_endpoints and not config.endpoints:
        raise ConfigError(f"{where}: no endpoint; add a section [endpoints.NAME] with its url")
    for name, endpoint in config.endpoints.items():
        check_endpoint(where, name, endpoint, config.endpoints)
        check_not_own(where, name, endpoint, config.proxy.listen)
    check_collector(where, config)
    check_spans(where, config.spans)
    check_otlp(where, config)
    return config


def _override(tree: dict[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """Put variables of known keys into the tree. Another variable that begins like a section's is a typo.

    Returns the variable that each key comes from.
    """
    origins: dict[str, str] = {}
    known = {
        f"{_ENVIRONMENT_PREFIX}{section.upper()}_{key.upper()}": (section, key)
        for section, struct in _SECTIONS.items()
        for key in struct.__struct_fields__
    }
    prefixes = tuple(f"{_ENVIRONMENT_PREFIX}{section.upper()}_" for section in _SECTIONS)
    suffixes = _endpoint_suffixes()
    names = {_shout(name): name for name in tree.get("endpoints", {}) if isinstance(name, str)}
    for variable, value in environment.items():
        if variable.startswith(prefixes):
            if variable not in known:
                raise ConfigError(f"{variable}: no such key{_nearest(variable, known)}")
            section, key = known[variable]
            _table(tree, section)[key] = _listed(value) if (section, key) in _LISTS else value
            origins[f"{section}.{key}"] = variable
        elif variable.startswith(f"{_ENVIRONMENT_PREFIX}ENDPOINTS_"):
            rest = variable.removeprefix(f"{_ENVIRONMENT_PREFIX}ENDPOINTS_")
            suffix = next((suffix for suffix in suffixes if rest.endswith(f"_{suffix}")), None)
            if suffix is None:
                raise ConfigError(f"{variable}: it must end in a key of an endpoint: {', '.join(suffixes)}")
            shouted = rest.removesuffix(f"_{suffix}")
            name = names.get(shouted, shouted.lower())
            table = _table(_table(tree, "endpoints"), name)
            *sections, key = suffixes[suffix]
            for section in sections:
                table = _table(table, section)
            table[key] = value
            origins[".".join(("endpoints", name, *suffixes[suffix]))] = variable
    return origins


def _listed(text: str) -> list[str]:
    """A list in a variable, between commas."""
    return [item.strip() for item in text.split(",") if item.strip()]


def _endpoint_suffixes() -> dict[str, tuple[str, ...]]:
    """TOKEN_COMMAND → (token, command) and so on. The longest come first, so that no suffix hides another."""
    suffixes: dict[str, tuple[str, ...]] = {}
    for key in EndpointConfig.__struct_fields__:
        if key in _NESTED:
            for inner in _NESTED[key].__struct_fields__:
                suffixes[f"{key}_{inner}".upper()] = (key, inner)
        else:
            suffixes[key.upper()] = (key,)
    return dict(sorted(suffixes.items(), key=lambda item: -len(item[0])))


def _table(tree: dict[str, Any], key: str) -> dict[str, Any]:
    table = tree.setdefault(key, {})
    if not isinstance(table, dict):
        raise ConfigError(f"'{key}' must be a table")
    return table


def _shout(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", name).upper()


def _explain(message: str, tree: dict[str, Any]) -> str:
    """msgspec's message in TOML's words: with the key's path, and the nearest key that exists."""
    text, _, path = message.partition(" - at `$")
    # msgspec's path has `[...]` for a map's key, so the endpoint has to be found again.
    keys = path.rstrip("`").removeprefix(".")
    if keys.startswith("endpoints[...]"):
        for name, table in tree.get("endpoints", {}).items():
            try:
                msgspec.convert(table, EndpointConfig, strict=False)
            except msgspec.ValidationError as error:
                text, _, inner = str(error).partition(" - at `$")
                keys = f"endpoints.{name}{inner.rstrip('`')}"
                break
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", text)
    if unknown:
        whole = ".".join(filter(None, (keys, unknown.group(1))))
        return f"unknown key '{whole}'{_nearest(unknown.group(1), _fields(keys))}"
    missing = re.fullmatch(r"Object missing required field `(.*)`", text)
    if missing:
        return f"the key '{'.'.join(filter(None, (keys, missing.group(1))))}' is missing"
    wrong = re.fullmatch(r"Expected `(\w+).*`, got `(\w+)`", text)
    if wrong:
        return f"'{keys}' must be {_IN_TOML.get(wrong.group(1), wrong.group(1))}"
    return f"'{keys}': {text[:1].lower()}{text[1:]}"


def _fields(keys: str) -> tuple[str, ...]:
    if not keys:
        return Config.__struct_fields__
    last = keys.rpartition(".")[2]
    section = _SECTIONS.get(keys) or _NESTED.get(last, EndpointConfig)
    return section.__struct_fields__


def _nearest(word: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; possible keys: {', '.join(known)}"
