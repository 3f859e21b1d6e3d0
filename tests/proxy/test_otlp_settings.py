"""otlp_settings.py: each variable is obeyed, or refused in one line that names it and no secret."""

from pathlib import Path

import pytest
import trustme

from dyno_proxy.telemetry.journal import SetupError
from dyno_proxy.telemetry.otlp_settings import otlp_settings, otlp_wanted

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
OTLP = "OTEL_EXPORTER_OTLP_"


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({f"{OTLP}ENDPOINT": ""}, False),
        ({f"{OTLP}TRACES_ENDPOINT": "http://h/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", **ENDPOINT}, False),
        ({"OTEL_TRACES_EXPORTER": "None", **ENDPOINT}, False),
        ({"OTEL_TRACES_EXPORTER": "", **ENDPOINT}, True),
        ({"OTEL_SDK_DISABLED": "True", **ENDPOINT}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "zipkin"}, False),
        ({"OTEL_SDK_DISABLED": "no", **ENDPOINT}, True),
    ],
)
def test_when_spans_are_exported(environ: dict[str, str], wanted: bool) -> None:
    """An endpoint, or the exporter's name alone, switches it on; SDK_DISABLED and `none` switch it off."""
    assert otlp_wanted(environ) is wanted


@pytest.mark.parametrize("exporter", ["console", "zipkin", "otlp,console", "jaeger"])
def test_another_exporter_is_refused(exporter: str) -> None:
    """It would be silent, or send elsewhere."""
    with pytest.raises(SetupError, match=r"^OTEL_TRACES_EXPORTER: '.*' is not supported; use otlp or none$"):
        otlp_wanted({"OTEL_TRACES_EXPORTER": exporter})


BAD = [
    (f"{OTLP}ENDPOINT", "localhost:4318", "'localhost:4318' has no scheme; write http://localhost:4318"),
    (f"{OTLP}ENDPOINT", "collector", "has no scheme; write http://collector"),
    (f"{OTLP}TRACES_ENDPOINT", "127.0.0.1:4317", "has no scheme"),
    (f"{OTLP}ENDPOINT", "grpc://h:4317", "has no scheme"),
    (f"{OTLP}ENDPOINT", "http:/h:4318", "has no scheme"),
    (f"{OTLP}ENDPOINT", "http://", "names no host"),
    (f"{OTLP}ENDPOINT", "http://h:port", "must be a URL"),
    (f"{OTLP}ENDPOINT", "http://h:99999", "must be a URL"),
    (f"{OTLP}ENDPOINT", "http://[::1", "must be a URL"),
    (f"{OTLP}PROTOCOL", "http/json", "'http/json' is not supported; use http/protobuf or grpc"),
    (f"{OTLP}TRACES_PROTOCOL", "http", "is not supported"),
    (f"{OTLP}TIMEOUT", "ten", "must be a number of seconds"),
    (f"{OTLP}TIMEOUT", "0", "must be a number of seconds, and more than 0"),
    (f"{OTLP}TRACES_TIMEOUT", "inf", "must be a number of seconds"),
    (f"{OTLP}COMPRESSION", "brotli", "use none, gzip, deflate"),
    (f"{OTLP}TRACES_COMPRESSION", "zstd", "use none, gzip, deflate"),
    (f"{OTLP}HEADERS", "secret", "member 1 must be KEY=VALUE"),
    (f"{OTLP}HEADERS", "a=1,=secret", "member 2 must be KEY=VALUE"),
    (f"{OTLP}TRACES_HEADERS", "a=secret%0A", "characters that a header can't hold"),
    (f"{OTLP}HEADERS", "a=%E2%82%ACsecret", "characters that a header can't hold"),
    (f"{OTLP}CERTIFICATE", "/nowhere/ca.pem", "'/nowhere/ca.pem' can't be read: No such file"),
    (f"{OTLP}CLIENT_CERTIFICATE", "/nowhere/own.pem", "can't be read"),
    (f"{OTLP}CLIENT_KEY", __file__, "needs OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"),
    (f"{OTLP}CERTIFICATE", __file__, "isn't a PEM file of certificates"),
    (f"{OTLP}CLIENT_CERTIFICATE", __file__, "isn't a PEM file with a certificate and its key"),
    (f"{OTLP}INSECURE", "maybe", "must be true or false"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "many", "'many' is not a positive number of spans"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "20", "20 is below OTEL_BSP_MAX_EXPORT_BATCH_SIZE, which is 512"),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0", "is not a positive number of spans"),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "-5", "is not a positive number of spans"),
    ("OTEL_BSP_SCHEDULE_DELAY", "5s", "is not a positive number of milliseconds"),
    ("OTEL_BSP_EXPORT_TIMEOUT", "1e3", "is not a positive number of milliseconds"),
    ("OTEL_TRACES_SAMPLER", "sometimes", "use one of always_on"),
    ("OTEL_RESOURCE_ATTRIBUTES", "a=1,b", "member 2 must be KEY=VALUE"),
    ("OTEL_CONFIG_FILE", "otel.yaml", "is not supported; set the other variables"),
    ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "few", "is not a number of 0 or more"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_a_value_that_cannot_be_used(name: str, value: str, message: str) -> None:
    """The error is one line that names the variable, and never a header's value."""
    with pytest.raises(SetupError) as raised:
        otlp_settings(ENDPOINT | {name: value})
    text = str(raised.value)
    assert (name if "BATCH_SIZE, which" not in message else "OTEL_BSP_MAX_QUEUE_SIZE") in text
    assert message in text
    assert "\n" not in text
    assert "secret" not in text


@pytest.mark.parametrize("ratio", ["half", "1.5", "-0.1", "nan"])
def test_a_ratio_that_is_none(ratio: str) -> None:
    """The SDK would take 1 instead."""
    with pytest.raises(SetupError, match=r"OTEL_TRACES_SAMPLER_ARG: '.*' must be a number from 0 to 1"):
        otlp_settings(ENDPOINT | {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": ratio})


def test_an_address_with_a_password_is_not_shown() -> None:
    """Neither where it is wrong nor where the log names it."""
    with pytest.raises(SetupError) as raised:
        otlp_settings({f"{OTLP}ENDPOINT": "user:secret@h:4318"})
    assert "secret" not in str(raised.value)
    assert otlp_settings({f"{OTLP}ENDPOINT": "http://user:secret@h:4318"}).url == "http://h:4318/v1/traces"


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://localhost:4318/v1/traces"),
        ({f"{OTLP}PROTOCOL": "grpc"}, "http://localhost:4317"),
        ({f"{OTLP}ENDPOINT": "http://h:4318/"}, "http://h:4318/v1/traces"),
        ({f"{OTLP}ENDPOINT": "http://h/otlp"}, "http://h/otlp/v1/traces"),
        ({f"{OTLP}TRACES_ENDPOINT": "https://h/x"}, "https://h/x"),
        ({f"{OTLP}ENDPOINT": "https://h:4317", f"{OTLP}TRACES_PROTOCOL": "GRPC"}, "https://h:4317"),
    ],
)
def test_where_spans_go(environ: dict[str, str], url: str) -> None:
    """As the SDK makes the address."""
    assert otlp_settings(environ).url == url


def test_what_the_sdk_gets() -> None:
    """Empty variables count as not set. Each exporter gets its compression in the form that it takes."""
    grpc = otlp_settings({f"{OTLP}PROTOCOL": "grpc", f"{OTLP}COMPRESSION": "none", f"{OTLP}TIMEOUT": " "})
    assert grpc.environ == {f"{OTLP}PROTOCOL": "grpc"}
    http = otlp_settings({f"{OTLP}COMPRESSION": "GZIP", f"{OTLP}TRACES_COMPRESSION": "none"})
    assert http.environ == {}
    assert otlp_settings({f"{OTLP}COMPRESSION": "GZIP"}).environ == {f"{OTLP}TRACES_COMPRESSION": "gzip"}
    with pytest.raises(SetupError, match="'deflate' is not supported by grpc"):
        otlp_settings({f"{OTLP}PROTOCOL": "grpc", f"{OTLP}COMPRESSION": "deflate"})


def test_the_batches() -> None:
    """The SDK's defaults, and the user's numbers."""
    assert otlp_settings(ENDPOINT)[3:6] == (512, 2048, 5.0)
    given = {"OTEL_BSP_MAX_QUEUE_SIZE": "20", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    assert otlp_settings(ENDPOINT | given)[3:6] == (10, 20, 0.05)


def test_certificates(tmp_path: Path) -> None:
    """Files that hold what they should are taken."""
    authority = trustme.CA()
    own = authority.issue_cert("client.example")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    own.private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    settings = otlp_settings(
        {f"{OTLP}CERTIFICATE": str(tmp_path / "ca.pem"), f"{OTLP}TRACES_CLIENT_CERTIFICATE": str(tmp_path / "own.pem")}
    )
    assert settings.certificates == (str(tmp_path / "ca.pem"), str(tmp_path / "own.pem"), None)
