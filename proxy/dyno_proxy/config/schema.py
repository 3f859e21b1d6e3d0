"""`dyno.toml`, with every key also as a `DYNO_…` variable; checked whole before anything starts.

DYNO_PROXY_LISTEN overrides `[proxy] listen`, DYNO_ENDPOINTS_METIS_URL `[endpoints.metis] url`,
DYNO_ENDPOINTS_METIS_TOKEN_ENV its `token.env`, and so on; an endpoint may stand in the environment alone.
"""

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_ENVIRONMENT_PREFIX: Final = "DYNO_"
_TLS_KEYS: Final = ("ca_file", "client_cert_file", "client_key_file")
_IN_TOML: Final = {
    "float": "a number",
    "int": "a whole number",
    "str": "a text",
    "bool": "true or false",
    "object": "a table",
}


class ConfigError(ValueError):
    """A configuration that can't be used; the message names the key and the mend."""


class TokenConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where an endpoint's token comes from: exactly one of `env`, `file`, `command`."""

    env: str | None = None
    file: str | None = None
    command: str | None = None
    refresh_s: float = 3600.0  # ALCF's tokens last 48 h, and its command renews them by itself


class PriceConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """List prices, in a currency of your choice per million tokens."""

    input_per_million: float
    output_per_million: float


class TimeoutsConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Limits in seconds; None is none, since a model may think for long."""

    connect_s: float = 30.0  # to a connection, TLS and an HTTP proxy's CONNECT included
    first_byte_s: float | None = None  # from the request's last byte to the first of the response
    idle_s: float | None = None  # between two reads of the response
    total_s: float | None = None  # from the request's head to the response's end


class MirrorConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A share of this endpoint's requests is sent again to another one, and the answer dropped."""

    to: str
    share: float
    max_requests: int = 4  # copies under way; beyond it none is sent, and that is counted


class EndpointConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    url: str
    model: str | None = None
    provider: str | None = None
    hardware: str | None = None
    token: TokenConfig | None = None
    price: PriceConfig | None = None
    power_w: float | None = None
    propagate: bool = False
    proxy: str | None = None  # http://[USER:PASSWORD@]HOST:PORT; CONNECT for https, absolute form for http
    ca_file: str | None = None
    client_cert_file: str | None = None
    client_key_file: str | None = None
    timeouts: TimeoutsConfig = TimeoutsConfig()
    retries: int = 0  # how often a request is sent again while no byte of a response came
    ask_usage: bool = False
    hidden_reasoning: bool = False  # it reasons, and shows neither the text nor the count
    mirror: MirrorConfig | None = None


class ProxyConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    listen: str = "127.0.0.1:8080"
    spans: str = "spans"
    metrics_listen: str | None = None
    keys_file: str | None = None
    workers: int = 1
    drain_s: float = 30.0  # how long running requests may still take after SIGTERM
    max_requests: int = 4096  # at once; beyond it 503 with Retry-After
    max_head_bytes: int = 65_536
    max_body_bytes: int | None = None  # of requests with an operation (chat, …); uploads have no limit
    head_timeout_s: float = 15.0  # from a request's first byte to the end of its head
    client_idle_s: float = 120.0  # a client that neither sends the body it owes nor reads the answer


class SpansConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    compact: bool = True  # full journals become Parquet, by `dyno compact`
    keep: str | None = None  # how long, or how much: older spans go


_NESTED: Final[dict[str, type[msgspec.Struct]]] = {  # tables of an endpoint
    "token": TokenConfig,
    "price": PriceConfig,
    "timeouts": TimeoutsConfig,
    "mirror": MirrorConfig,
}


class CollectorConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    listen: str | None = None  # where `dyno proxy` has a collector beside it; none, and there is none


# The two forms that `dyno compact --keep` takes; a contract test compares.
_KEEP: Final = re.compile(r"[1-9]\d*(h|d|MB|GB|TB)")
_SECTIONS: Final[dict[str, type[msgspec.Struct]]] = {
    "proxy": ProxyConfig,
    "spans": SpansConfig,
    "collector": CollectorConfig,
}


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    proxy: ProxyConfig = ProxyConfig()
    spans: SpansConfig = SpansConfig()
    collector: CollectorConfig = CollectorConfig()
    endpoints: dict[str, EndpointConfig] = {}


def load_config(
    path: Path | None, environment: Mapping[str, str], flags: Mapping[str, str], *, need_endpoints: bool = True
) -> Config:
    """The file, overridden by the environment, overridden by the flags (keys of `[proxy]`, or `section.key`).

    Raises ConfigError.
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


def split_address(address: str) -> tuple[str, int]:
    """`host:port`, `[::1]:port`, `:port` (loopback) as (host, port). Raises ValueError."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"'{address}' is no HOST:PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: {(error.strerror or str(error)).lower()}; name the file with --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


def _checked(where: str, tree: dict[str, Any], need_endpoints: bool) -> Config:
    try:
        config = msgspec.convert(tree, Config, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_explain(str(error), tree)}") from error
    for name, endpoint in config.endpoints.items():
        _check_endpoint(where, name, endpoint, config.endpoints)
    if need_endpoints and not config.endpoints:
        raise ConfigError(f"{where}: no endpoint; add a section [endpoints.NAME] with its url")
    _check_proxy(where, config.proxy)
    _check_collector(where, config)
    if config.spans.keep is not None and not _KEEP.fullmatch(config.spans.keep):
        raise ConfigError(f"{where}: spans.keep: '{config.spans.keep}' is no age or size, as in 30d or 10GB")
    return config


def _override(tree: dict[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """Variables of known keys go into the tree; others that begin as those of a section do are typos.

    Returns which variable a key comes from.
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
            _table(tree, section)[key] = value
            origins[f"{section}.{key}"] = variable
        elif variable.startswith(f"{_ENVIRONMENT_PREFIX}ENDPOINTS_"):
            rest = variable.removeprefix(f"{_ENVIRONMENT_PREFIX}ENDPOINTS_")
            suffix = next((suffix for suffix in suffixes if rest.endswith(f"_{suffix}")), None)
            if suffix is None:
                raise ConfigError(f"{variable}: it ends in no key of an endpoint; there is: {', '.join(suffixes)}")
            shouted = rest.removesuffix(f"_{suffix}")
            name = names.get(shouted, shouted.lower())
            table = _table(_table(tree, "endpoints"), name)
            *sections, key = suffixes[suffix]
            for section in sections:
                table = _table(table, section)
            table[key] = value
            origins[".".join(("endpoints", name, *suffixes[suffix]))] = variable
    return origins


def _endpoint_suffixes() -> dict[str, tuple[str, ...]]:
    """TOKEN_COMMAND → (token, command) and so on, the longest first, so that no suffix hides another."""
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


def _check_endpoint(where: str, name: str, endpoint: EndpointConfig, others: Mapping[str, EndpointConfig]) -> None:
    key = f"{where}: endpoints.{name}"
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{key}: a name is of letters, digits, '_', '-' and '.', since it stands in the path")
    # The URL may hold a secret where none belongs: no message repeats it.
    try:
        parts = urlsplit(endpoint.url)
        _ = parts.port
    except ValueError:
        raise ConfigError(f"{key}.url is no URL; write https://HOST/PATH or https://HOST:PORT/PATH") from None
    if parts.username or parts.password:
        raise ConfigError(f"{key}.url holds a password; use {key}.token")
    if parts.scheme not in ("http", "https"):
        raise ConfigError(f"{key}.url has no scheme; write http://… or https://…")
    if not parts.hostname or not parts.hostname.isascii():
        raise ConfigError(f"{key}.url names no host in ASCII")
    if parts.query or parts.fragment:
        raise ConfigError(f"{key}.url has a query or a fragment; only a base path is possible")
    if endpoint.token is not None:
        given = [source for source in ("env", "file", "command") if getattr(endpoint.token, source) is not None]
        if len(given) != 1:
            raise ConfigError(f"{key}.token: give exactly one of env, file, command")
    for limit in TimeoutsConfig.__struct_fields__:
        value = getattr(endpoint.timeouts, limit)
        if value is not None and not value > 0:
            raise ConfigError(f"{key}.timeouts.{limit} must be more than 0 seconds; leave it out for no limit")
    if endpoint.retries < 0:
        raise ConfigError(f"{key}.retries must be 0 or more")
    if endpoint.proxy is not None:
        _check_http_proxy(f"{key}.proxy", endpoint.proxy)
    tls_only = [field for field in _TLS_KEYS if getattr(endpoint, field) is not None]
    if tls_only and parts.scheme != "https":
        raise ConfigError(f"{key}.{tls_only[0]}: only an https URL has certificates, and {key}.url is none")
    if endpoint.client_key_file is not None and endpoint.client_cert_file is None:
        raise ConfigError(f"{key}.client_key_file needs {key}.client_cert_file")
    if endpoint.mirror is not None:
        _check_mirror(f"{key}.mirror", name, endpoint.mirror, others)


def _check_http_proxy(key: str, url: str) -> None:
    # The URL may hold a password: the message doesn't repeat it.
    try:
        parts = urlsplit(url)
        usable = parts.scheme == "http" and bool(parts.hostname) and parts.port is not None
    except ValueError:
        usable = False
    if not usable or parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError(f"{key}: write http://HOST:PORT of an HTTP proxy")


def _check_mirror(key: str, name: str, mirror: MirrorConfig, endpoints: Mapping[str, EndpointConfig]) -> None:
    if mirror.to == name or mirror.to not in endpoints:
        others = ", ".join(other for other in endpoints if other != name)
        raise ConfigError(f"{key}.to: '{mirror.to}' is no other endpoint; there is: {others}")
    if not 0 < mirror.share <= 1:
        raise ConfigError(f"{key}.share must be more than 0 and at most 1")
    if mirror.max_requests < 1:
        raise ConfigError(f"{key}.max_requests must be 1 or more")
    if endpoints[mirror.to].model is None:
        raise ConfigError(f"{key}: endpoints.{mirror.to} needs a 'model', which the copies ask for")


def _check_proxy(where: str, proxy: ProxyConfig) -> None:
    for key, address in (("listen", proxy.listen), ("metrics_listen", proxy.metrics_listen)):
        if address is not None:
            try:
                split_address(address)
            except ValueError as error:
                raise ConfigError(f"{where}: proxy.{key}: {error}, as in 127.0.0.1:8080") from error
    for key in ("workers", "max_requests", "max_body_bytes"):
        value = getattr(proxy, key)
        if value is not None and value < 1:
            raise ConfigError(f"{where}: proxy.{key} must be 1 or more")
    if proxy.max_head_bytes < 1024:
        raise ConfigError(f"{where}: proxy.max_head_bytes must be 1024 or more")
    for key in ("head_timeout_s", "client_idle_s"):
        if not getattr(proxy, key) > 0:
            raise ConfigError(f"{where}: proxy.{key} must be more than 0 seconds")
    if not proxy.drain_s >= 0:
        raise ConfigError(f"{where}: proxy.drain_s must be 0 seconds or more")
    if not is_loopback(split_address(proxy.listen)[0]) and proxy.keys_file is None:
        raise ConfigError(
            f"{where}: proxy.listen: {proxy.listen} is reachable by others; set proxy.keys_file, a file of client keys"
        )


def _check_collector(where: str, config: Config) -> None:
    address = config.collector.listen
    if address is None:
        return
    try:
        host, _ = split_address(address)
    except ValueError as error:
        raise ConfigError(f"{where}: collector.listen: {error}, as in 127.0.0.1:4318") from error
    if not is_loopback(host) and config.proxy.keys_file is None:
        raise ConfigError(
            f"{where}: collector.listen: {address} is reachable by others; set proxy.keys_file, a file of client keys"
        )


def _explain(message: str, tree: dict[str, Any]) -> str:
    """msgspec's message with TOML's words: the key's path, and the nearest key that exists."""
    text, _, path = message.partition(" - at `$")
    # A map's key is `[...]` in msgspec's path: which endpoint it was has to be found again.
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
    return f"; did you mean '{near[0]}'?" if near else f"; there is: {', '.join(known)}"
