"""Checks what types can't express in a configuration: combinations, addresses, files."""

import math
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

from dyno_proxy.file_modes import access_of

from .address import is_loopback, split_address
from .schema import Config, ConfigError, EndpointConfig, MirrorConfig, ProxyConfig, SpansConfig, TimeoutsConfig

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/,]+|null|\*")
_HOST: Final = re.compile(r"[^\s/,@]+")
_TLS_KEYS: Final = ("ca_file", "client_cert_file", "client_key_file")
_AGE: Final = re.compile(r"([1-9]\d{0,5})h|([1-9]\d{0,4})d", re.ASCII)
# The two forms that `dyno compact --keep` takes. A contract test compares them.
_RATE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*/\s*(s|min|h)", re.ASCII)
_HEADER: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
# A session's header mustn't be one that means something else on the way, or that the driver sends itself.
_NO_SESSION_HEADERS: Final = frozenset(
    (
        *("accept", "accept-encoding", "authorization", "baggage", "connection", "content-encoding", "content-length"),
        *("content-type", "cookie", "expect", "host", "keep-alive", "te", "traceparent", "tracestate", "trailer"),
        *("proxy-authorization", "proxy-connection", "transfer-encoding", "upgrade", "user-agent"),
    )
)
_RATE_UNITS_S: Final = {"s": 1.0, "min": 60.0, "h": 3600.0}
KEEP: Final = re.compile(rf"{_AGE.pattern}|[1-9]\d{{0,8}}(MB|GB|TB)", re.ASCII)


def check_endpoint(where: str, name: str, endpoint: EndpointConfig, others: Mapping[str, EndpointConfig]) -> None:
    """Raises ConfigError. `where`: the file, for messages. `others`: all endpoints by name."""
    key = f"{where}: endpoints.{name}"
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{key}: a name may have letters, digits, '_', '-' and '.', since it stands in the path")
    # Somebody may have put a secret into the URL, so no message repeats it.
    try:
        parts = urlsplit(endpoint.url)
        _ = parts.port
    except ValueError:
        raise ConfigError(f"{key}.url must be a URL; write https://HOST/PATH or https://HOST:PORT/PATH") from None
    if parts.username or parts.password:
        raise ConfigError(f"{key}.url holds a user or a password; remove it and use endpoints.{name}.token")
    if parts.scheme not in ("http", "https"):
        raise ConfigError(f"{key}.url has no scheme; write http://… or https://…")
    if not parts.hostname or not parts.hostname.isascii():
        raise ConfigError(f"{key}.url must name a host, in ASCII; write https://HOST/PATH")
    if parts.query or parts.fragment:
        raise ConfigError(f"{key}.url has a query or a fragment; write it up to its path alone")
    if endpoint.origin is not None:
        _check_origin(key, endpoint.origin, parts)
    if endpoint.token is not None:
        given = [source for source in ("env", "file", "command") if getattr(endpoint.token, source) is not None]
        if len(given) != 1:
            raise ConfigError(f"{key}.token: give exactly one of env, file, command")
    for limit in TimeoutsConfig.__struct_fields__:
        value = getattr(endpoint.timeouts, limit)
        if value is not None and not value > 0:
            raise ConfigError(f"{key}.timeouts.{limit} must be more than 0 seconds; leave it out for no limit")
    if endpoint.rate_limit is not None and not rate_per_s(endpoint.rate_limit):
        raise ConfigError(
            f'{key}.rate_limit: \'{endpoint.rate_limit}\' must be requests in a time, such as "10/s" or "600/min"'
        )
    if endpoint.rate_limit_burst < 1:
        raise ConfigError(f"{key}.rate_limit_burst must be 1 or more")
    if endpoint.session_header is not None:
        _check_session_header(f"{key}.session_header", endpoint.session_header)
    if endpoint.retries < 0:
        raise ConfigError(f"{key}.retries must be 0 or more")
    if endpoint.proxy is not None:
        _check_http_proxy(f"{key}.proxy", endpoint.proxy)
    tls_only = [field for field in _TLS_KEYS if getattr(endpoint, field) is not None]
    if tls_only and parts.scheme != "https":
        raise ConfigError(f"{key}.{tls_only[0]}: certificates need an https URL, and {key}.url isn't one")
    if endpoint.client_key_file is not None and endpoint.client_cert_file is None:
        raise ConfigError(f"{key}.client_key_file needs endpoints.{name}.client_cert_file")
    if endpoint.mirror is not None:
        _check_mirror(f"{key}.mirror", name, endpoint.mirror, others)


def check_not_own(where: str, name: str, endpoint: EndpointConfig, listen: str) -> None:
    """Raises ConfigError where the endpoint is the proxy's own address `listen`: a request would go round for ever."""
    parts = urlsplit(endpoint.url)
    host, port = split_address(listen)
    to_host, to_port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    same = to_host == host or (is_loopback(to_host) and (is_loopback(host) or host in ("0.0.0.0", "::")))  # noqa: S104
    if to_port == port and same:
        raise ConfigError(f"{where}: endpoints.{name}.url is the proxy's own address; write the endpoint's")


def _check_origin(key: str, origin: str, url: SplitResult) -> None:
    # As of the url, no message repeats it.
    try:
        parts = urlsplit(origin)
        same = (parts.scheme, parts.netloc) == (url.scheme, url.netloc)
    except ValueError:
        same = False
    if not same or parts.query or parts.fragment:
        raise ConfigError(f"{key}.origin must be {key}.url with another path, such as https://HOST/PATH")


def _check_session_header(key: str, name: str) -> None:
    if not _HEADER.fullmatch(name):
        raise ConfigError(f'{key}: {name!r} must be a header\'s name, such as "X-Session-ID"')
    if name.lower() in _NO_SESSION_HEADERS:
        raise ConfigError(
            f"{key}: '{name}' means something else; write the header by which the endpoint knows sessions"
        )


def _check_http_proxy(key: str, url: str) -> None:
    # The URL may hold a password, so the message doesn't repeat it.
    try:
        parts = urlsplit(url)
        usable = parts.scheme == "http" and bool(parts.hostname) and parts.port is not None
    except ValueError:
        usable = False
    if not usable or parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError(f"{key} must be the URL of an HTTP proxy; write http://HOST:PORT")


def _check_mirror(key: str, name: str, mirror: MirrorConfig, endpoints: Mapping[str, EndpointConfig]) -> None:
    if mirror.to == name or mirror.to not in endpoints:
        others = ", ".join(other for other in endpoints if other != name)
        raise ConfigError(f"{key}.to: '{mirror.to}' must be another endpoint; configured: {others}")
    if not 0 < mirror.share <= 1:
        raise ConfigError(f"{key}.share must be more than 0 and at most 1")
    if mirror.max_requests < 1:
        raise ConfigError(f"{key}.max_requests must be 1 or more")
    if endpoints[mirror.to].model is None:
        raise ConfigError(f"{key}: endpoints.{mirror.to}.model is missing; set it, since the copies ask for that model")


def check_proxy(where: str, proxy: ProxyConfig) -> None:
    """Raises ConfigError. `where`: the file, for messages."""
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
    if not 0 <= proxy.drain_s < math.inf:
        raise ConfigError(f"{where}: proxy.drain_s must be 0 seconds or more, and not endless")
    _check_visitors(where, proxy)
    if not is_loopback(split_address(proxy.listen)[0]) and proxy.keys_file is None:
        raise ConfigError(
            f"{where}: proxy.listen: {proxy.listen} is reachable by others; set proxy.keys_file, a file of client keys"
        )


def _check_visitors(where: str, proxy: ProxyConfig) -> None:
    for host in proxy.hosts:
        if not _HOST.fullmatch(host):
            raise ConfigError(f"{where}: proxy.hosts: '{host}' must be a name as in Host, such as dyno.example")
    for origin in proxy.cors_origins:
        if not _ORIGIN.fullmatch(origin):
            raise ConfigError(f"{where}: proxy.cors_origins: '{origin}' must be an origin, such as https://app.example")
    if "*" in proxy.cors_origins and proxy.keys_file is None:
        raise ConfigError(
            f"{where}: proxy.cors_origins: '*' opens the proxy to every web page; name the origins, or set keys_file"
        )


def check_spans(where: str, spans: SpansConfig) -> None:
    """Raises ConfigError. `where`: the file, for messages."""
    if spans.keep is not None and not KEEP.fullmatch(spans.keep):
        raise ConfigError(
            f"{where}: spans.keep: '{spans.keep}' must be an age or a size, such as 30d or 10GB, and at most 99999d"
        )
    if spans.user not in ("hmac", "clear"):
        raise ConfigError(f'{where}: spans.user: \'{spans.user}\' must be "hmac" or "clear"')
    try:
        access_of(spans.group)
    except ValueError as error:
        raise ConfigError(f"{where}: spans.group: {error}") from error


def check_collector(where: str, config: Config) -> None:
    """Raises ConfigError. `where`: the file, for messages."""
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


def check_otlp(where: str, config: Config) -> None:
    """Raises ConfigError. `where`: the file, for messages."""
    if not _AGE.fullmatch(config.otlp.keep):
        raise ConfigError(f"{where}: otlp.keep: '{config.otlp.keep}' must be an age, such as 24h or 7d")


def age_s(text: str) -> float:
    """An age that was checked, in s."""
    match = _AGE.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' must be an age, such as 24h or 7d")
    hours, days = match.groups()
    return float(hours) * 3600 if hours else float(days) * 86_400


def rate_per_s(text: str) -> float:
    """The requests a second that `10/s`, `600/min` or `36000/h` means; 0 for anything else."""
    match = _RATE.fullmatch(text.strip())
    return 0.0 if match is None else float(match.group(1)) / _RATE_UNITS_S[match.group(2)]
