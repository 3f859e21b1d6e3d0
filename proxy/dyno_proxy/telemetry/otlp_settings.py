"""The variables by which OTLP is configured: those that OpenTelemetry's SDK documents, checked before anything starts.

The SDK itself logs a value that it can't use, and goes on with another one or with none. Here each is an error of one
line. No message repeats a value that may hold a secret. docs/proxy.md has the table of all variables.
"""

import math
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from .journal import SetupError
from .sampling import SAMPLERS

HTTP: Final = "http/protobuf"
GRPC: Final = "grpc"
_DEFAULT_URLS: Final = {HTTP: "http://localhost:4318", GRPC: "http://localhost:4317"}

# What the exporter's process gets of the proxy's environment, beside what any Python needs.
PASSED_ON: Final = re.compile(
    r"OTEL_\w+|GRPC_\w+|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|(https?|all|no)_proxy", re.IGNORECASE
)

_PREFIX: Final = "OTEL_EXPORTER_OTLP_"
_SECRET_CHARACTERS: Final = 4  # a shorter value isn't one
_LIMITS: Final = (
    *("OTEL_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"),
    *("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_LINK_COUNT_LIMIT"),
)
_BATCH: Final = {  # with the SDK's defaults
    "OTEL_BSP_MAX_QUEUE_SIZE": 2048,
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": 512,
    "OTEL_BSP_SCHEDULE_DELAY": 5000,
    "OTEL_BSP_EXPORT_TIMEOUT": 30_000,
}
# What the SDK takes for a header; one of another form it leaves out.
_HEADER: Final = re.compile(
    r"[\x21\x23-\x27*+\-.0-9A-Z^-z|~]+[ \t]*=[ \t]*[\x20\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*"
)


class OtlpSettings(NamedTuple):
    """Where and how spans are sent."""

    protocol: str
    url: str  # as the messages name it: without a user and a password, for HTTP with its path
    variable: str  # that names the endpoint
    batch: int  # spans that are sent at once, at most
    waiting: int  # spans that are read ahead, at most
    delay_s: float  # how long a span may wait for others
    certificates: tuple[str | None, str | None, str | None]  # files: authorities, the client's certificate, its key
    environ: dict[str, str]  # for the SDK: the OTEL_… variables in a form that it takes


def otlp_wanted(environ: Mapping[str, str]) -> bool:
    """Whether the environment names an OTLP endpoint for traces, and nothing in it switches them off.

    Raises SetupError for an exporter that isn't OTLP's.
    """
    if _of(environ, "OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = _of(environ, "OTEL_TRACES_EXPORTER", "")
    if exporter.lower() not in ("", "otlp", "none"):
        raise SetupError(f"OTEL_TRACES_EXPORTER: '{exporter}' is not supported; use otlp or none")
    if exporter.lower() == "none":
        return False
    return bool(exporter or _of(environ, f"{_PREFIX}TRACES_ENDPOINT", "") or _of(environ, f"{_PREFIX}ENDPOINT", ""))


def otlp_settings(environ: Mapping[str, str]) -> OtlpSettings:
    """The settings. Raises SetupError for a variable that can't be used: one line that names it and the mend."""
    given = {name: value.strip() for name, value in environ.items() if name.startswith("OTEL_") and value.strip()}
    if "OTEL_CONFIG_FILE" in given:
        raise SetupError("OTEL_CONFIG_FILE is not supported; set the other variables instead")
    variable, protocol = _named(given, "PROTOCOL", HTTP)
    protocol = protocol.lower()
    if protocol not in (HTTP, GRPC):
        raise SetupError(f"{variable}: '{protocol}' is not supported; use {HTTP} or {GRPC}")
    variable, url = _named(given, "ENDPOINT", _DEFAULT_URLS[protocol])
    _check_url(variable, url)
    _check_timeout(given)
    _check_compression(given, protocol)
    _check_headers(given, protocol)
    certificates = _certificates(given)
    for name in (f"{_PREFIX}INSECURE", f"{_PREFIX}TRACES_INSECURE"):
        if given.get(name, "true").lower() not in ("true", "false"):
            raise SetupError(f"{name}: '{given[name]}' must be true or false")
    numbers = {name: _whole(given, name, default) for name, default in _BATCH.items()}
    waiting, batch, delay_ms, _ = numbers.values()
    if waiting < batch:
        raise SetupError(
            f"OTEL_BSP_MAX_QUEUE_SIZE: {waiting} is below OTEL_BSP_MAX_EXPORT_BATCH_SIZE, which is {batch}; "
            "raise it, or lower that"
        )
    _check_sampler(given)
    _check_resource(given)
    for name in _LIMITS:
        if not re.fullmatch(r"\d{1,9}|unset", given.get(name, "0"), re.IGNORECASE | re.ASCII):
            raise SetupError(f"{name}: '{given[name]}' is not a number of 0 or more")
    return OtlpSettings(
        protocol, _shown(given, protocol, url), variable, batch, waiting, delay_ms / 1000, certificates, given
    )


def _of(environ: Mapping[str, str], name: str, default: str) -> str:
    """A variable's value. One that is empty counts as not set, as OpenTelemetry's specification says."""
    return environ.get(name, "").strip() or default


def _named(given: Mapping[str, str], suffix: str, default: str = "") -> tuple[str, str]:
    """The variable that holds, that of traces before that of all signals, with its value."""
    for name in (f"{_PREFIX}TRACES_{suffix}", f"{_PREFIX}{suffix}"):
        if name in given:
            return name, given[name]
    return f"{_PREFIX}{suffix}", default


def _check_url(variable: str, url: str) -> None:
    # It may hold a password, so no message repeats more than what has no scheme.
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise SetupError(f"{variable} must be a URL; write http://HOST:PORT") from None
    if parts.scheme not in ("http", "https") or "://" not in url:
        shown = "" if "@" in url else f": '{url}'"
        hint = f"http://{url}" if re.fullmatch(r"[\w.\-\[\]:]+(/\S*)?", url) else "http://HOST:PORT"
        raise SetupError(f"{variable}{shown} has no scheme; write {hint} (or https://…)")
    if not host or any(character.isspace() for character in url):
        raise SetupError(f"{variable} names no host; write {parts.scheme}://HOST:PORT")


def _shown(given: Mapping[str, str], protocol: str, url: str) -> str:
    parts = urlsplit(url)
    path = parts.path
    if protocol == HTTP and f"{_PREFIX}TRACES_ENDPOINT" not in given:
        path = f"{path.removesuffix('/')}/v1/traces"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{'' if protocol == GRPC else path}"


def _check_timeout(given: Mapping[str, str]) -> None:
    for name in (f"{_PREFIX}TIMEOUT", f"{_PREFIX}TRACES_TIMEOUT"):
        try:
            usable = 0 < float(given.get(name, "10")) < math.inf
        except ValueError:
            usable = False
        if not usable:
            raise SetupError(f"{name}: '{given[name]}' must be a number of seconds, and more than 0")


def _check_compression(given: dict[str, str], protocol: str) -> None:
    """Also hand it on as the SDK's exporter for this protocol takes it."""
    kinds = ("none", "gzip", "deflate") if protocol == HTTP else ("none", "gzip")
    for name in (f"{_PREFIX}COMPRESSION", f"{_PREFIX}TRACES_COMPRESSION"):
        if given.get(name, "none").lower() not in kinds:
            raise SetupError(f"{name}: '{given[name]}' is not supported by {protocol}; use {', '.join(kinds)}")
    _, kind = _named(given, "COMPRESSION", "none")
    for name in (f"{_PREFIX}COMPRESSION", f"{_PREFIX}TRACES_COMPRESSION"):
        given.pop(name, None)
    if kind.lower() != "none":
        given[f"{_PREFIX}TRACES_COMPRESSION"] = kind.lower()


def _check_headers(given: Mapping[str, str], protocol: str) -> None:
    for name in (f"{_PREFIX}HEADERS", f"{_PREFIX}TRACES_HEADERS"):
        for number, member in enumerate(given.get(name, "").split(","), start=1):
            if not member.strip():
                continue
            if not _HEADER.fullmatch(member.strip()):
                raise SetupError(f"{name}: member {number} must be KEY=VALUE; special characters are written as %20")
            value = unquote(member.partition("=")[2].strip())
            if not value.isprintable() or not (value.isascii() if protocol == GRPC else _is_latin(value)):
                raise SetupError(f"{name}: member {number} has a value with characters that a header can't hold")


def header_values(environ: Mapping[str, str]) -> list[str]:
    """What the headers hold, as they are written and as they are sent: the longest first. They may be secrets."""
    found: set[str] = set()
    for name in (f"{_PREFIX}HEADERS", f"{_PREFIX}TRACES_HEADERS"):
        for member in environ.get(name, "").split(","):
            value = member.partition("=")[2].strip()
            found |= {value, unquote(value), unquote(value).rpartition(" ")[2]}
    return sorted((value for value in found if len(value) >= _SECRET_CHARACTERS), key=len, reverse=True)


def _is_latin(value: str) -> bool:
    return all(ord(character) < 256 for character in value)


def _certificates(given: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
    names = [_named(given, suffix) for suffix in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")]
    for name, file in names:
        try:
            if file:
                Path(file).read_bytes()
        except OSError as error:
            raise SetupError(f"{name}: '{file}' can't be read: {error.strerror}") from error
    (of_authorities, authorities), (of_own, own), (of_key, key) = names
    if key and not own:
        raise SetupError(f"{of_key} needs {_PREFIX}CLIENT_CERTIFICATE, the file with the key's certificate")
    try:
        if authorities:
            ssl.create_default_context(cafile=authorities)
    except ssl.SSLError as error:
        raise SetupError(f"{of_authorities}: '{authorities}' isn't a PEM file of certificates") from error
    try:
        if own:
            # A password would be asked for on the terminal.
            ssl.create_default_context().load_cert_chain(own, key or None, password="")
    except (ssl.SSLError, ValueError) as error:
        raise SetupError(f"{of_own}: '{own}' isn't a PEM file with a certificate and its key") from error
    return authorities or None, own or None, key or None


def _whole(given: Mapping[str, str], name: str, default: int) -> int:
    text = given.get(name, str(default))
    if not re.fullmatch(r"0*[1-9]\d{0,8}", text, re.ASCII):
        what = "milliseconds" if name.endswith(("DELAY", "TIMEOUT")) else "spans"
        raise SetupError(f"{name}: '{text}' is not a positive number of {what}")
    return int(text)


def _check_sampler(given: dict[str, str]) -> None:
    name = given.get("OTEL_TRACES_SAMPLER", "parentbased_always_on").lower()
    if name not in SAMPLERS:
        raise SetupError(f"OTEL_TRACES_SAMPLER: '{name}' is not supported; use one of {', '.join(SAMPLERS)}")
    if name.endswith("traceidratio"):
        ratio = given.setdefault("OTEL_TRACES_SAMPLER_ARG", "1.0")
        try:
            usable = 0 <= float(ratio) <= 1
        except ValueError:
            usable = False
        if not usable:
            raise SetupError(f"OTEL_TRACES_SAMPLER_ARG: '{ratio}' must be a number from 0 to 1 for {name}")


def _check_resource(given: Mapping[str, str]) -> None:
    for number, pair in enumerate(given.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","), start=1):
        key, separator, _ = pair.partition("=")
        if pair.strip() and not (key.strip() and separator):
            raise SetupError(f"OTEL_RESOURCE_ATTRIBUTES: member {number} must be KEY=VALUE")
