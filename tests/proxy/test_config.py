from pathlib import Path

import pytest

from dyno_proxy.config.address import split_address
from dyno_proxy.config.load import load_config
from dyno_proxy.config.schema import ConfigError

GOOD = """
[proxy]
listen = "127.0.0.1:9000"
[endpoints.metis]
url = "https://inference-api.alcf.anl.gov/resource_server/metis/api/v1"
model = "gpt-oss-120b"
token.env = "TOKEN"
price = { input_per_million = 0.22, output_per_million = 0.59 }
power_w = 10000
session_header = "X-ALCF-Session-ID"
"""


def load(tmp_path: Path, text: str, environment: dict[str, str] | None = None) -> object:
    path = tmp_path / "dyno.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, environment or {}, {})


def test_a_good_file(tmp_path: Path) -> None:
    """Every key is read, with its type."""
    path = tmp_path / "dyno.toml"
    path.write_text(GOOD, encoding="utf-8")
    config = load_config(path, {"DYNO_PROXY_SPANS": "elsewhere", "OTHER": "x"}, {"listen": "127.0.0.1:0"})
    metis = config.endpoints["metis"]
    assert (config.proxy.listen, config.proxy.spans) == ("127.0.0.1:0", "elsewhere")
    assert metis.token is not None
    assert metis.price is not None
    assert (metis.token.env, metis.price.output_per_million, metis.power_w) == ("TOKEN", 0.59, 10000.0)
    assert metis.session_header == "X-ALCF-Session-ID"


def test_the_environment_alone() -> None:
    """Every key is also an environment variable. Without a file, the variables alone are the configuration."""
    config = load_config(
        None,
        {
            "DYNO_ENDPOINTS_SOPHIA_URL": "http://h/v1",
            "DYNO_ENDPOINTS_SOPHIA_TOKEN_COMMAND": "print token",
            "DYNO_ENDPOINTS_SOPHIA_POWER_W": "6500",
            "DYNO_ENDPOINTS_SOPHIA_PROPAGATE": "true",
            "DYNO_ENDPOINTS_SOPHIA_PRICE_INPUT_PER_MILLION": "0.1",
            "DYNO_ENDPOINTS_SOPHIA_PRICE_OUTPUT_PER_MILLION": "0.2",
        },
        {},
    )
    sophia = config.endpoints["sophia"]
    assert sophia.token is not None
    assert sophia.price is not None
    assert (sophia.token.command, sophia.power_w, sophia.propagate) == ("print token", 6500.0, True)
    assert sophia.price.input_per_million == 0.1


BAD = [
    ("[proxy]\nlisen = 'x'\n", "unknown key 'proxy.lisen'; did you mean 'listen'?"),
    ("[endpoint.a]\nurl = 'http://h'\n", "unknown key 'endpoint'; did you mean 'endpoints'?"),
    ("[endpoints.a]\nurl = 'http://h'\nmodell = 'm'\n", "unknown key 'endpoints.a.modell'; did you mean 'model'?"),
    ("[endpoints.a]\nurl = 'http://h'\ntoken.evn = 'T'\n", "unknown key 'endpoints.a.token.evn'; did you mean 'env'?"),
    ("[endpoints.a]\nmodel = 'm'\n", "the key 'endpoints.a.url' is missing"),
    ("[endpoints.a]\nurl = 'inference.anl.gov/v1'\n", "has no scheme; write http://"),
    ("[endpoints.a]\nurl = 'ftp://h/v1'\n", "has no scheme"),
    ("[endpoints.a]\nurl = 'http://u:secret@h/v1'\n", "holds a user or a password"),
    ("[endpoints.a]\nurl = 'http://h:99999/v1'\n", "must be a URL"),
    ("[endpoints.a]\nurl = 'http://h/v1'\norigin = 'http://other/'\n", "origin must be"),
    ("[endpoints.a]\nurl = 'http://h/v1'\norigin = 'https://h'\n", "origin must be"),
    ("[endpoints.a]\nurl = 'http://h/v1'\norigin = 'http://h:99999'\n", "origin must be"),
    ("[endpoints.a]\nurl = 'http://h/v1'\norigin = 'http://h/?x'\n", "origin must be"),
    ("[endpoints.a]\nurl = 'http://h/v1?key=1'\n", "query"),
    ("[endpoints.a]\nurl = 'http://127.0.0.1:8080/v1'\n", "endpoints.a.url is the proxy's own address"),
    ("[proxy]\nlisten = 'h:80'\nkeys_file = 'k'\n[endpoints.a]\nurl = 'http://h/v1'\n", "is the proxy's own address"),
    ("[proxy]\nhosts = 'a'\n[endpoints.a]\nurl = 'http://h'\n", "'proxy.hosts' must be a list"),
    ("[proxy]\nhosts = ['http://a']\n[endpoints.a]\nurl = 'http://h'\n", "proxy.hosts: 'http://a' must be a name"),
    ("[proxy]\ncors_origins = ['a.example']\n[endpoints.a]\nurl = 'http://h'\n", "'a.example' must be an origin"),
    ("[proxy]\ncors_origins = ['http://a/']\n[endpoints.a]\nurl = 'http://h'\n", "'http://a/' must be an origin"),
    ("[proxy]\ncors_origins = ['*']\n[endpoints.a]\nurl = 'http://h'\n", "name the origins, or set keys_file"),
    ("[proxy]\nallow_other_users = 'perhaps'\n[endpoints.a]\nurl = 'http://h'\n", "must be true or false"),
    ("[endpoints.'a/b']\nurl = 'http://h/v1'\n", "a name may have letters"),
    ("[endpoints.a]\nurl = 'http://h'\npower_w = 'much'\n", "'endpoints.a.power_w' must be a number"),
    ("[endpoints.a]\nurl = 'http://h'\nsession_header = 'X Session'\n", "'X Session' must be a header's name"),
    ("[endpoints.a]\nurl = 'http://h'\nsession_header = ''\n", "'' must be a header's name"),
    ("[endpoints.a]\nurl = 'http://h'\nsession_header = \"X-A\\r\\nB\"\n", "must be a header's name"),
    ("[endpoints.a]\nurl = 'http://h'\nsession_header = 'authorization'\n", "'authorization' means something else"),
    ("[endpoints.a]\nurl = 'http://h'\nsession_header = 3\n", "'endpoints.a.session_header' must be"),
    ("[endpoints.a]\nurl = 'http://h'\ntoken = { env = 'A', file = 'B' }\n", "exactly one of env, file, command"),
    ("[proxy]\nlisten = '8080x'\n[endpoints.a]\nurl = 'http://h'\n", "must be HOST:PORT"),
    ("[proxy]\nlisten = '0.0.0.0:1'\n[endpoints.a]\nurl = 'http://h'\n", "set proxy.keys_file"),
    ("proxy = 3\n[endpoints.a]\nurl = 'http://h'\n", "'proxy' must be a table"),
    ("[proxy]\n", "no endpoint"),
    ("[proxy\n", "isn't TOML"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    """A mistake is reported in one line that names the file, the key and the fix, and shows no secret."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    said = str(caught.value)
    assert message in said
    assert "\n" not in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("DYNO_PROXY_LISEN", "DYNO_PROXY_LISTEN"),
        ("DYNO_ENDPOINTS_METIS_URI", "must end in a key of an endpoint"),
    ],
)
def test_a_mistyped_variable(tmp_path: Path, variable: str, message: str) -> None:
    """A variable that begins like ours but isn't one is reported as a mistake."""
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, GOOD, {variable: "x"})


@pytest.mark.parametrize(
    ("environment", "flags", "origin"),
    [
        ({}, {"listen": "x"}, "the command line: proxy.listen: 'x'"),
        ({"DYNO_PROXY_LISTEN": "y"}, {"listen": "x"}, "the command line: proxy.listen: 'x'"),
        ({}, {"collector.listen": "x"}, "the command line: collector.listen: 'x'"),
        ({"DYNO_PROXY_LISTEN": "x"}, {}, "DYNO_PROXY_LISTEN: proxy.listen: 'x'"),
        ({"DYNO_PROXY_WORKERS": "x"}, {}, "DYNO_PROXY_WORKERS: 'proxy.workers' must be a whole number"),
        ({"DYNO_ENDPOINTS_METIS_URL": "x"}, {}, "DYNO_ENDPOINTS_METIS_URL: endpoints.metis.url has no scheme"),
    ],
)
def test_whose_mistake_it_is(tmp_path: Path, environment: dict[str, str], flags: dict[str, str], origin: str) -> None:
    """A message names the file only if the file's value is in use."""
    path = tmp_path / "dyno.toml"
    path.write_text(GOOD, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path, environment, flags)
    assert str(caught.value).startswith(origin)


def test_a_missing_file(tmp_path: Path) -> None:
    """The message contains the file's name."""
    with pytest.raises(ConfigError, match=r"nowhere\.toml: no such file"):
        load_config(tmp_path / "nowhere.toml", {}, {})


def test_addresses() -> None:
    """An address can be IPv4, IPv6, or a port alone."""
    assert split_address("127.0.0.1:80") == ("127.0.0.1", 80)
    assert split_address("[::1]:0") == ("::1", 0)
    assert split_address(":8080") == ("127.0.0.1", 8080)
