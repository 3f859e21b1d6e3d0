"""The keys of `dyno.toml`. Each is a `DYNO_…` variable too, and all are checked before anything starts.

DYNO_PROXY_LISTEN overrides `[proxy] listen`, DYNO_ENDPOINTS_METIS_URL `[endpoints.metis] url`,
DYNO_ENDPOINTS_METIS_TOKEN_ENV its `token.env`, and so on. An endpoint may be configured by variables alone.
"""

import msgspec


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
    """Limits in seconds. None is no limit, since a model may think for long."""

    connect_s: float = 30.0  # to a connection, TLS and an HTTP proxy's CONNECT included
    first_byte_s: float | None = None  # from the request's last byte to the first of the response
    idle_s: float | None = None  # between two reads of the response
    total_s: float | None = None  # from the request's head to the response's end


class MirrorConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A share of this endpoint's requests is sent again to another one, and the answer dropped."""

    to: str
    share: float
    max_requests: int = 4  # at once; a copy beyond that isn't sent, but counted


class EndpointConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[endpoints.NAME]`: an OpenAI-compatible server, how to reach it, and what is known of it."""

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
    hidden_reasoning: bool = False  # the model reasons, and neither the text nor the token count is shown
    mirror: MirrorConfig | None = None


class ProxyConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[proxy]`: where it listens and writes, and what it bears from clients."""

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
    client_idle_s: float = 120.0  # how long a client may neither send the rest of its body nor read its answer


class SpansConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[spans]`: what happens to span files as they grow old."""

    compact: bool = True  # `dyno compact` turns full journals into Parquet
    keep: str | None = None  # an age or a size; spans beyond it are deleted, the oldest first


class CollectorConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[collector]`: the OTLP receiver."""

    listen: str | None = None  # where `dyno proxy` runs a collector beside it; None: it runs none


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The whole configuration."""

    proxy: ProxyConfig = ProxyConfig()
    spans: SpansConfig = SpansConfig()
    collector: CollectorConfig = CollectorConfig()
    endpoints: dict[str, EndpointConfig] = {}
